// PyTorch's operator samples (opinfo-golden 1): the arguments of a call as its metadata describe them. Nothing here
// knows an operator.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "whence/nn/io/safetensors.h"
#include "whence/whence.h"

namespace whence::opinfo {

using Json = nlohmann::json;

/// The engine has not this option of an operator, and what() says which.
struct OptionMissing : Error {
  using Error::Error;
};

/// One call. An argument is named by its place (kKeyword: it has none) and its keyword; absent and None are one.
class Call {
 public:
  static constexpr int kKeyword = -1;
  /// \param sample  an entry of `samples` (tensors are in the file) or of `refused` (shapes; the elements are 1/2)
  Call(const Safetensors& file, const Json& sample);

  Graph g;
  int places() const;  ///< how many arguments have one
  bool given(int place, const char* keyword = "") const;
  bool is_tensor(int place, const char* keyword = "") const;
  bool is_list(int place, const char* keyword = "") const;
  bool is_flag(int place, const char* keyword = "") const;
  bool is_integer(int place) const;
  bool is_word(int place, const char* keyword = "") const;

  /// A tensor; a number as [] of this dtype.
  Var var(int place, const char* keyword = "", DType number_as = f64);
  Arg arg(int place, const char* keyword = "");  ///< a tensor, or a number that meets one
  Arg arg(int place, const char* keyword, double otherwise);
  std::optional<Arg> maybe(int place, const char* keyword = "");
  std::vector<Var> vars(int place = 0);                ///< a list at this place, or all tensors from there on
  Tensor values(int place, const char* keyword = "");  ///< the elements of a tensor that decide a shape

  Tensor tensor_of(const Json& argument);  ///< {"t": name}

  double real(int place, const char* keyword, double otherwise) const;
  int64_t integer(int place, const char* keyword, int64_t otherwise) const;
  bool flag(int place, const char* keyword, bool otherwise) const;
  std::string word(int place, const char* keyword, const char* otherwise) const;
  Ints ints(int place, const char* keyword, Ints otherwise = {}) const;                 ///< a number is a list of one
  std::vector<std::optional<int64_t>> open_ints(int place, const char* keyword) const;  ///< None leaves one open
  std::vector<double> reals(int place, const char* keyword) const;                      ///< a number is a list of one
  std::pair<Ints, Ints> two_lists(int place, const char* keyword) const;                ///< [[..], [..]]
  DType dtype(int place, const char* keyword, DType otherwise) const;
  const Json& at(int place, const char* keyword = "") const;  ///< null when absent

  Var input(const std::string& name) const;  ///< the Var of "in0"; undefined when no argument is it
  Tensor fed(const std::string& name) const;
  Feeds feeds() const;

 private:
  struct Operand {
    std::string name;
    Var var;
    Tensor value;
  };
  Var tensor(const Json& argument);
  const Operand* find(const std::string& name) const;
  const Safetensors& file_;
  const Json& sample_;
  std::vector<Operand> operands_;
};

double number(const Json&);  ///< {"f": "inf"} is one, too

}  // namespace whence::opinfo
