// Module: named parameters in a tree, in one flat arena per model. No virtual forward: a model is a struct with
// operator().
#pragma once
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "whence/autograd/sweep.h"
#include "whence/nn/init.h"

namespace whence::nn {

class Module;

/// One trained tensor of a module, or (not trainable) one that it keeps. Its memory is a slice of the root module's
/// arena.
class Parameter : public State {
 public:
  // name(): full, "encoder.layer.0.weight"
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
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  virtual ~Module();  ///< leaves its parent

  /// Own and inherited parameters, depth first in the order of construction.
  std::vector<Parameter*> parameters() const;
  int64_t parameter_count() const;
  /// Allocates (once) and initialises all parameters. Called with seed 0 and f32 on first use if never called.
  /// May be called again for other random numbers. \throws DTypeError when the dtype is not the arena's, or no float.
  void init(uint64_t seed = 0, DType dtype = f32);
  /// Moves the parameters to a device. Plans that were made before keep the old memory. Roots only.
  void to(Device device);
  /// All parameters as one contiguous tensor [parameter_count], in parameters() order. Roots only.
  Tensor flat();
  /// Freezes or frees all parameters; buffers stay what they are.
  void set_trainable(bool yes);
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
  void place(const std::vector<Parameter*>& all);
  std::string name_;
  Module* parent_ = nullptr;
  std::vector<std::pair<Module*, std::unique_ptr<Parameter>>> members_;  // a child or a parameter, in order
  Tensor flat_;
};

/// Vars of the trainable parameters of m in g's order, for grad().
std::vector<Var> vars(Graph& g, const Module& m);
/// d loss / d parameter for every trainable parameter of m.
std::vector<Var> grad(Var loss, const Module& m);

}  // namespace whence::nn
