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

void Module::set_trainable(bool yes) {
  for (Parameter* p : parameters())
    if (!p->buffer_) p->set_trainable(yes);
}

std::vector<Parameter*> Module::parameters() const {
  std::vector<Parameter*> all;
  for (auto& [child, p] : members_) {
    if (p) all.push_back(p.get());
    else
      for (Parameter* q : child->parameters()) all.push_back(q);
  }
  return all;
}

int64_t Module::parameter_count() const {
  int64_t n = 0;
  for (Parameter* p : parameters()) n += p->shape().numel();
  return n;
}

void Module::init(uint64_t seed, DType dtype) {
  if (parent_) throw ValueError("init() belongs to the root module, not to '" + name_ + "'");
  if (!is_float(dtype)) throw DTypeError("parameters are floating point, asked for " + std::string(name_of(dtype)));
  std::vector<Parameter*> all = parameters();
  if (!flat_.defined()) {
    std::map<std::string, int> seen;
    for (Parameter* p : all)
      if (seen[p->name_]++) throw ValueError("two parameters are named '" + p->name_ + "'");
    flat_ = Tensor::empty({parameter_count()}, dtype);
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
  if (flat().device() == device) return;
  flat_ = flat_.to(device);
  place(parameters());
}

Tensor Module::flat() {
  if (parent_) throw ValueError("flat() belongs to the root module, not to '" + name_ + "'");
  if (!flat_.defined()) init();
  return flat_;
}

int64_t Module::offset(const Parameter& p) const {
  int64_t at = 0;
  for (Parameter* q : parameters()) {
    if (q == &p) return at;
    at += q->shape().numel();
  }
  throw ValueError("parameter '" + p.name() + "' is not part of this module");
}

std::map<std::string, Tensor> Module::state_dict() {
  std::map<std::string, Tensor> state;
  for (Parameter* p : parameters()) state.emplace(p->name(), p->tensor());
  return state;
}

void Module::load_state_dict(const std::map<std::string, Tensor>& state, bool strict) {
  std::string wrong;
  std::vector<std::pair<Parameter*, const Tensor*>> moves;
  std::map<std::string, Parameter*> own;
  for (Parameter* p : parameters()) {
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

std::vector<Var> vars(Graph& g, const Module& m) {
  std::vector<Var> out;
  for (Parameter* p : m.parameters())
    if (p->trainable()) out.push_back(p->in(g));
  return out;
}

std::vector<Var> grad(Var loss, const Module& m) { return whence::grad(loss, vars(loss.graph(), m)); }

}  // namespace whence::nn
