// Module: named parameters in a tree, in one flat arena per model. No virtual forward: a model is a struct with
// operator().
#pragma once
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/sweep.h"
#include "nn/init.h"

namespace whence::nn {

class Module;

/// One trained tensor of a module. Its memory is a slice of the root module's arena.
class Parameter {
 public:
  const std::string& name() const { return name_; }  ///< full, "encoder/layer.0/weight" written with dots
  const Shape& shape() const { return shape_; }
  Tensor tensor() const;  ///< initialises the model on first use
  /// The parameter in g.
  Var in(Graph& g) const { return g.parameter(name_, tensor()); }
  bool trainable() const { return trainable_; }
  void set_trainable(bool yes) { trainable_ = yes; }

 private:
  friend class Module;
  Module* owner_ = nullptr;
  std::string name_;
  Shape shape_;
  Init init_;
  bool trainable_ = true;
  Tensor tensor_;
};

class Module {
 public:
  Module() = default;                               ///< a root
  Module(Module& parent, const std::string& name);  ///< a child, named inside its parent
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  virtual ~Module() = default;

  /// Own and inherited parameters, depth first in the order of construction.
  std::vector<Parameter*> parameters() const;
  int64_t parameter_count() const;
  /// Allocates (once) and initialises all parameters. Called with seed 0 and f32 on first use if never called.
  /// May be called again for other random numbers. \throws DTypeError when the dtype is not the arena's.
  void init(uint64_t seed = 0, DType dtype = f32);
  /// All parameters as one contiguous tensor [parameter_count], in parameters() order. Roots only.
  Tensor flat();
  /// Offset of p in flat(), in elements.
  int64_t offset(const Parameter& p) const;

  /// Names and tensors (views, not copies).
  std::map<std::string, Tensor> state_dict();
  /// Copies values in, converting dtypes. \throws ValueError listing everything missing, unexpected or misshapen;
  /// nothing is changed then. With strict = false, missing and unexpected names are left alone.
  void load_state_dict(const std::map<std::string, Tensor>& state, bool strict = true);

  const std::string& name() const { return name_; }

 protected:
  /// Registers a parameter. Keep the reference: it lives as long as the module.
  Parameter& parameter(const std::string& name, const Shape& shape, Init init);

 private:
  friend class Parameter;
  Module& root();
  std::string name_;
  Module* parent_ = nullptr;
  std::vector<std::pair<Module*, std::unique_ptr<Parameter>>> members_;  // a child or a parameter, in order
  Tensor flat_;
};

/// What a forward pass moves besides the gradients' parameters, such as running statistics. A module that is training
/// says update(p, value) while it records; TrainStep listens, computes `value` with the loss and writes it after the
/// batch. Without a listener nothing happens.
void update(Parameter& p, Var value);
class UpdateListener {
 public:
  UpdateListener();
  ~UpdateListener();
  UpdateListener(const UpdateListener&) = delete;
  std::vector<std::pair<Parameter*, Var>> heard;

 private:
  UpdateListener* before_;
};

/// Vars of the trainable parameters of m in g's order, for grad().
std::vector<Var> vars(Graph& g, const Module& m);
/// d loss / d parameter for every trainable parameter of m.
std::vector<Var> grad(Var loss, const Module& m);

}  // namespace whence::nn
