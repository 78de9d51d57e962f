#include "whence/nn/module.h"

#include <fmt/format.h>

namespace whence::nn {

Tensor Parameter::tensor() const {
  if (!owner_) throw ValueError("a parameter that no module made has no tensor");
  if (!tensor_.defined()) owner_->root().init();
  return tensor_;
}

Module::Module(Module& parent, const std::string& name)
    : name_(parent.name_.empty() ? name : parent.name_ + "." + name), parent_(&parent) {
  if (parent.root().flat_.defined())
    throw ValueError("module '" + name_ + "' comes too late: the model's parameters are already allocated");
  parent.members_.emplace_back(this, nullptr);
}

Module::Module(Module&& other) noexcept
    : name_(std::move(other.name_)),
      parent_(std::exchange(other.parent_, nullptr)),
      members_(std::move(other.members_)),
      flat_(std::move(other.flat_)) {
  other.members_.clear();
  for (auto& [child, p] : members_) (p ? p->owner_ : child->parent_) = this;
  if (!parent_) return;
  for (auto& [child, p] : parent_->members_)
    if (child == &other) child = this;
}

Module::~Module() {
  for (auto& [child, p] : members_)
    if (child) child->parent_ = nullptr;
  if (parent_) std::erase_if(parent_->members_, [&](auto& m) { return m.first == this; });
}

Module& Module::root() {
  Module* m = this;
  while (m->parent_) m = m->parent_;
  return *m;
}

Parameter& Module::parameter(const std::string& name, const Shape& shape, Init init) {
  auto p = std::make_unique<Parameter>();
  p->owner_ = this;
  p->name_ = name_.empty() ? name : name_ + "." + name;
  for (int64_t extent : shape)
    if (extent < 0) throw ShapeError("parameter '" + p->name_ + "' has a negative extent: " + shape.str());
  try {
    check_extents(shape, size_of(f64));
  } catch (const ShapeError& e) {
    throw ShapeError("parameter '" + p->name_ + "': " + e.what());
  }
  p->shape_ = shape;
  p->init_ = init;
  p->trainable_ = true;
  if (root().flat_.defined())
    throw ValueError("parameter '" + p->name_ + "' comes too late: the model's parameters are already allocated");
  members_.emplace_back(nullptr, std::move(p));
  return *members_.back().second;
}

Parameter& Module::buffer(const std::string& name, const Shape& shape, Init init) {
  Parameter& p = parameter(name, shape, init);
  p.trainable_ = false;
  p.buffer_ = true;
  return p;
}

void Parameter::set_trainable(bool yes) {
  if (yes && buffer_)
    throw ValueError("'" + name_ +
                     "' is moved by its module and cannot be trained (Module::set_trainable passes over it)");
  State::set_trainable(yes);
}

// A name below this module's own.
std::string Module::inside(const std::string& full) const {
  return name_.empty() ? full : full.substr(name_.size() + 1);
}

void Module::set_trainable(bool yes, const std::string& pattern) {
  size_t fits = 0;
  for (auto& [name, p] : named_parameters()) {
    if (!lrp::glob(pattern, name)) continue;
    p->set_trainable(yes);
    ++fits;
  }
  if (fits == 0 && pattern != "*")
    throw ValueError(
        fmt::format("no parameter of {} fits '{}'", name_.empty() ? "the model" : "'" + name_ + "'", pattern));
}

std::vector<Parameter*> Module::states() const {
  std::vector<Parameter*> all;
  for (auto& [child, p] : members_) {
    if (p) all.push_back(p.get());
    else
      for (Parameter* q : child->states()) all.push_back(q);
  }
  return all;
}

static std::vector<Parameter*> of_kind(std::vector<Parameter*> all, bool buffer) {
  std::erase_if(all, [&](const Parameter* p) { return p->is_buffer() != buffer; });
  return all;
}
std::vector<Parameter*> Module::parameters() const { return of_kind(states(), false); }
std::vector<Parameter*> Module::buffers() const { return of_kind(states(), true); }

std::vector<std::pair<std::string, Parameter*>> Module::named_parameters() const {
  std::vector<std::pair<std::string, Parameter*>> named;
  for (Parameter* p : parameters()) named.emplace_back(inside(p->name()), p);
  return named;
}

std::vector<Module*> Module::children() const {
  std::vector<Module*> list;
  for (auto& [child, p] : members_)
    if (!p) list.push_back(child);
  return list;
}

int64_t Module::parameter_count() const {
  int64_t n = 0;
  for (Parameter* p : parameters()) n += p->shape().numel();
  return n;
}

void Module::init(uint64_t seed, DType dtype) {
  if (parent_) throw ValueError("init() belongs to the root module, not to '" + name_ + "'");
  if (!is_float(dtype)) throw DTypeError("parameters are floating point, asked for " + std::string(name_of(dtype)));
  std::vector<Parameter*> all = states();
  if (!flat_.defined()) {
    std::map<std::string, int> seen;
    for (Parameter* p : all)
      if (seen[p->name_]++) throw ValueError("two parameters are named '" + p->name_ + "'");
    int64_t n = 0;
    for (const Parameter* p : all) n += p->shape().numel();
    flat_ = Tensor::empty({n}, dtype);
    place(all);
  }
  if (flat_.dtype() != dtype)
    throw DTypeError(fmt::format("the model is allocated in {}, asked for {}", name_of(flat_.dtype()), name_of(dtype)));
  for (Parameter* p : all) {
    Tensor here = p->tensor_.to(Device{});
    p->init_.fill(here, seed, p->name_);
    if (!p->tensor_.device().host()) p->tensor_.copy_from(here);
  }
}

// Each parameter's window on the arena.
void Module::place(const std::vector<Parameter*>& all) {
  size_t at = 0;
  for (Parameter* p : all) {
    p->tensor_ = Tensor::wrap(flat_.buffer(), at, p->shape_, flat_.dtype());
    at += p->tensor_.nbytes();
  }
}

void Module::to(Device device) {
  Module& all = root();
  if (all.flat().device() == device) return;
  all.flat_ = all.flat_.to(device);
  all.place(all.states());
}

Tensor Module::flat() {
  Module& all = root();
  if (!all.flat_.defined()) all.init();
  if (!parent_) return flat_;
  const std::vector<Parameter*> own = states();  // one behind the other in the model's
  int64_t n = 0;
  for (const Parameter* p : own) n += p->shape().numel();
  const int64_t first = own.empty() ? 0 : all.offset(*own[0]);
  return all.flat_.slice(0, first, first + n);
}

int64_t Module::offset(const Parameter& p) const {
  int64_t at = 0;
  for (Parameter* q : states()) {
    if (q == &p) return at;
    at += q->shape().numel();
  }
  throw ValueError("parameter '" + p.name() + "' is not part of this module");
}

std::map<std::string, Tensor> Module::state_dict() {
  std::map<std::string, Tensor> state;
  for (Parameter* p : states()) state.emplace(p->name(), p->tensor());
  return state;
}

void Module::load_state_dict(const std::map<std::string, Tensor>& state, bool strict) {
  std::string wrong;
  std::vector<std::pair<Parameter*, const Tensor*>> moves;
  std::map<std::string, Parameter*> own;
  for (Parameter* p : states()) {
    own[p->name()] = p;
    auto it = state.find(p->name());
    if (it == state.end()) {
      if (strict) wrong += "\n  missing " + p->name() + " " + p->shape().str();
    } else if (!it->second.defined()) {
      wrong += "\n  " + p->name() + " is undefined in the file";
    } else if (!(it->second.shape() == p->shape())) {
      wrong += "\n  " + p->name() + " is " + p->shape().str() + ", the file has " + it->second.shape().str();
    } else {
      moves.emplace_back(p, &it->second);
    }
  }
  if (strict)
    for (auto& [name, t] : state)
      if (!own.contains(name)) wrong += "\n  unexpected " + name + " " + t.shape().str();
  if (!wrong.empty()) throw ValueError("these weights do not fit the model:" + wrong);
  for (auto& [p, t] : moves) p->tensor().copy_from(*t);
}

Sequential& Sequential::add(std::function<Var(Arg)> step) {
  if (!step) throw ValueError(fmt::format("Sequential '{}': step {} is an empty function", name(), steps_.size()));
  steps_.push_back(std::move(step));
  return *this;
}

Var Sequential::operator()(Arg x) const {
  ModuleScope here(*this, x);
  Var y = x;
  for (auto& step : steps_) y = step(Arg(y, x.where));
  return y;
}

std::vector<Var> vars(Graph& g, const Module& m) {
  std::vector<Var> out;
  for (Parameter* p : m.parameters())
    if (p->trainable()) out.push_back(p->in(g));
  return out;
}

std::vector<Var> grad(Var loss, const Module& m) { return whence::grad(loss, vars(loss.graph(), m)); }

}  // namespace whence::nn
