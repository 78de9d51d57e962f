// Module: named parameters in a tree, in one flat arena per model. No virtual forward: a model is a struct with
// operator().
//
//   struct Block : nn::Module {
//     Block(Module& parent, const std::string& name) : Module(parent, name) {}
//     Var operator()(Arg x) const {
//       ModuleScope here(*this, x);  // what is recorded carries this module's name and the caller's line
//       return x + down(relu(up(x)));
//     }
//     nn::Linear up{*this, "up", 8, 32}, down{*this, "down", 32, 8};
//   };
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "whence/autograd/sweep.h"
#include "whence/nn/init.h"

namespace whence::nn {

class Module;

/// One trained tensor of a module, a parameter, or one that the module moves by itself, a buffer. Its memory is a slice
/// of the root module's arena.
class Parameter : public State {
 public:
  // name(): full, "encoder.layer.0.weight"
  bool is_buffer() const { return buffer_; }
  const Shape& shape() const { return shape_; }
  Tensor tensor() const override;  ///< initialises the model on first use
  /// The parameter in g.
  Var in(Graph& g) const { return g.state(*this); }
  /// Frozen parameters keep their values. \throws ValueError for a buffer, which is never trained
  void set_trainable(bool yes);

 private:
  friend class Module;
  Module* owner_ = nullptr;
  bool buffer_ = false;
  Shape shape_;
  Init init_;
};

class Module {
 public:
  Module() = default;                               ///< a root
  Module(Module& parent, const std::string& name);  ///< a child, named inside its parent
  /// The part takes its place in the model, so that std::vector<Block> can grow. What holds a reference to the old one
  /// (a TrainStep) does not follow.
  Module(Module&& other) noexcept;
  Module& operator=(Module&&) = delete;
  virtual ~Module();  ///< leaves its parent

  /// Parameters of this module and its children, depth first in the order of construction.
  std::vector<Parameter*> parameters() const;
  std::vector<Parameter*> buffers() const;  ///< likewise
  std::vector<Parameter*> states() const;   ///< both, in the order of flat()
  /// Parameters with their names inside this module.
  std::vector<std::pair<std::string, Parameter*>> named_parameters() const;
  std::vector<Module*> children() const;  ///< of this module itself
  int64_t parameter_count() const;        ///< elements of all parameters, buffers left aside
  /// Allocates (once) and initialises all parameters. Called with seed 0 and f32 on first use if never called.
  /// May be called again for other random numbers. \throws DTypeError when the dtype is not the arena's, or no float.
  void init(uint64_t seed = 0, DType dtype = f32);
  /// Moves the whole model to a device. Plans that were made before keep the old memory.
  void to(Device device);
  /// All parameters and buffers as one contiguous tensor, in states() order: of a part, its window.
  Tensor flat();
  /// Frees or freezes the parameters whose name inside this module fits the pattern ('*' is any run of characters);
  /// buffers stay what they are. \throws ValueError for a pattern that fits none
  void set_trainable(bool yes, const std::string& pattern = "*");
  void freeze(const std::string& pattern = "*") { set_trainable(false, pattern); }
  /// Offset of p in flat(), in elements.
  int64_t offset(const Parameter& p) const;

  /// Names and tensors (views, not copies).
  std::map<std::string, Tensor> state_dict();
  /// Copies values in, converting dtypes. \throws ValueError listing everything missing, undefined, unexpected or
  /// misshapen; nothing is changed then. With strict = false, missing and unexpected names are left alone.
  void load_state_dict(const std::map<std::string, Tensor>& state, bool strict = true);

  const std::string& name() const { return name_; }

 protected:
  /// Registers a parameter. Keep the reference: it lives as long as the module. \throws ShapeError for a negative
  /// extent, ValueError once the model is allocated
  Parameter& parameter(const std::string& name, const Shape& shape, Init init);
  /// The same for what the module moves by itself (Graph::assign), such as running statistics: never trained.
  Parameter& buffer(const std::string& name, const Shape& shape, Init init);

 private:
  friend class Parameter;
  Module& root();
  std::string inside(const std::string& full_name) const;
  void place(const std::vector<Parameter*>& all);
  std::string name_;
  Module* parent_ = nullptr;
  std::vector<std::pair<Module*, std::unique_ptr<Parameter>>> members_;  // a child or a parameter, in order
  Tensor flat_;
};

/// First in a module's operator(): nodes recorded while it lives carry the module's name as their scope and the
/// caller's line.
class ModuleScope {
 public:
  ModuleScope(const Module& m, const Arg& x) : line_(x), scope_(x.graph(), m.name()) {}

 private:
  LocationGuard line_;
  PartScope scope_;
};

/// Modules of one kind, named by their number: {parent, "encoder.layer"} holds "encoder.layer.0", "encoder.layer.1", ..
template <class T> class ModuleList : public Module {
 public:
  ModuleList(Module& parent, const std::string& name) : Module(parent, name) {}
  /// `count` modules T(list, "0", args...), T(list, "1", args...), ..
  template <class... Args> ModuleList(Module& parent, const std::string& name, int64_t count, const Args&... args)
      : Module(parent, name) {
    for (int64_t i = 0; i < count; ++i) emplace_back(args...);
  }
  template <class... Args> T& emplace_back(Args&&... args) {
    return list_.emplace_back(*this, std::to_string(list_.size()), std::forward<Args>(args)...);
  }
  size_t size() const { return list_.size(); }
  bool empty() const { return list_.empty(); }
  T& operator[](size_t i) { return list_[i]; }
  const T& operator[](size_t i) const { return list_[i]; }
  T& back() { return list_.back(); }
  auto begin() { return list_.begin(); }
  auto end() { return list_.end(); }
  auto begin() const { return list_.begin(); }
  auto end() const { return list_.end(); }

 private:
  std::vector<T> list_;
};

/// Modules and functions one after the other, named by their number as PyTorch's:
///   Sequential net; net.add<Linear>(784, 128).add(relu).add<Linear>(128, 10);   // "0.weight", "2.weight"
class Sequential : public Module {
 public:
  using Module::Module;
  /// A module T(sequential, number, args...).
  template <class T, class... Args> Sequential& add(Args&&... args) {
    auto made = std::make_unique<T>(*this, std::to_string(steps_.size()), std::forward<Args>(args)...);
    steps_.push_back([m = made.get()](Arg x) -> Var { return (*m)(x); });
    owned_.push_back(std::move(made));
    return *this;
  }
  /// An operation, such as relu, or any function of a Var.
  Sequential& add(std::function<Var(Arg)> step);
  Var operator()(Arg x) const;
  size_t size() const { return steps_.size(); }

 private:
  std::vector<std::function<Var(Arg)>> steps_;
  std::vector<std::unique_ptr<Module>> owned_;
};

/// A table of the modules: name, parameters, how many of them are trained. With values of a recorded graph also the
/// shape of what each module gives, its operations, bytes written and floating point operations (of products and
/// convolutions, 2 per multiplication and addition).
std::string summary(const Module& m, std::span<const Var> outputs = {});
inline std::string summary(const Module& m, Var output) { return summary(m, std::span(&output, 1)); }

/// Vars of the trainable parameters of m in g's order, for grad().
std::vector<Var> vars(Graph& g, const Module& m);
/// d loss / d parameter for every trainable parameter of m.
std::vector<Var> grad(Var loss, const Module& m);

}  // namespace whence::nn
