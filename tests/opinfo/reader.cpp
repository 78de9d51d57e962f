#include "tests/opinfo/reader.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace whence::opinfo {
namespace {

// The elements of `dense` in memory of these strides, as the reference had them.
Tensor laid_out(const Tensor& dense, const Ints& strides) {
  if (dense.numel() == 0) return dense;
  int64_t last = 0;
  Shape steps = dense.shape();
  for (int i = 0; i < steps.rank(); ++i) {
    last += (dense.shape()[i] - 1) * strides[size_t(i)];
    steps[i] = strides[size_t(i)];
  }
  Tensor memory = Tensor::zeros({last + 1}, dense.dtype());
  Tensor seen = Tensor::window(memory, {memory.raw(), dense.dtype(), dense.shape(), steps});
  seen.copy_from(dense);
  return seen;
}

Tensor described(const Json& argument) {
  Shape shape(argument.at("shape").get<Ints>());
  DType dtype = dtype_from(argument.at("dtype").get<std::string>());
  if (!argument.contains("values")) return Tensor::full(shape, is_float(dtype) ? 0.5 : 0, dtype);
  std::vector<double> values;
  for (const Json& v : argument.at("values")) values.push_back(number(v));
  return Tensor::from(values, shape).to(dtype);
}

}  // namespace

namespace {

// Words and lists where a number is due are what a caller would be told.
template <class T> T as(const Json& j) {
  try {
    return j.get<T>();
  } catch (const Json::exception& e) {
    throw ValueError(std::string("argument ") + j.dump() + ": " + e.what());
  }
}

}  // namespace

double number(const Json& j) {
  if (j.is_object()) {
    const std::string& text = j.at("f").get_ref<const std::string&>();
    return text == "nan" ? NAN : text == "inf" ? INFINITY : -INFINITY;
  }
  return j.is_boolean() ? j.get<bool>() : as<double>(j);
}

Call::Call(const Safetensors& file, const Json& sample) : file_(file), sample_(sample) {}

const Json& Call::at(int place, const char* keyword) const {
  static const Json none;
  const Json &args = sample_.at("args"), &kwargs = sample_.at("kwargs");
  if (place >= 0 && place < int(args.size())) return args[size_t(place)];
  auto found = kwargs.find(keyword);
  return found == kwargs.end() ? none : *found;
}

int Call::places() const { return int(sample_.at("args").size()); }
bool Call::given(int place, const char* keyword) const { return !at(place, keyword).is_null(); }
bool Call::is_list(int place, const char* keyword) const { return at(place, keyword).is_array(); }
bool Call::is_integer(int place) const { return at(place).is_number_integer() || at(place).is_boolean(); }
bool Call::is_flag(int place, const char* keyword) const { return at(place, keyword).is_boolean(); }
bool Call::is_word(int place, const char* keyword) const { return at(place, keyword).is_string(); }
bool Call::is_tensor(int place, const char* keyword) const {
  const Json& j = at(place, keyword);
  return j.is_object() && (j.contains("t") || j.contains("shape"));
}

const Call::Operand* Call::find(const std::string& name) const {
  auto it = std::find_if(operands_.begin(), operands_.end(), [&](const Operand& o) { return o.name == name; });
  return it == operands_.end() ? nullptr : &*it;
}

Var Call::tensor(const Json& argument) {
  if (!argument.is_object()) throw ValueError("argument " + argument.dump() + " is no tensor");
  bool stored = argument.contains("t");
  std::string name = stored ? argument.at("t").get<std::string>() : "described" + std::to_string(operands_.size());
  if (const Operand* seen = find(name)) return seen->var;
  Tensor value = stored ? file_.tensor(name) : described(argument);
  if (argument.contains("strides")) value = laid_out(value, argument.at("strides").get<Ints>());
  operands_.push_back({name, g.input(name, value.shape(), value.dtype()), value});
  return operands_.back().var;
}

Var Call::var(int place, const char* keyword, DType number_as) {
  if (is_tensor(place, keyword)) return tensor(at(place, keyword));
  return g.constant(Tensor::scalar(number(at(place, keyword)), number_as));
}

Arg Call::arg(int place, const char* keyword) {
  if (is_tensor(place, keyword)) return tensor(at(place, keyword));
  return number(at(place, keyword));
}

Arg Call::arg(int place, const char* keyword, double otherwise) {
  return given(place, keyword) ? arg(place, keyword) : Arg(otherwise);
}

std::optional<Arg> Call::maybe(int place, const char* keyword) {
  if (!given(place, keyword)) return {};
  return arg(place, keyword);
}

std::vector<Var> Call::vars(int place) {
  std::vector<Var> all;
  if (is_list(place)) {
    for (const Json& j : at(place)) all.push_back(tensor(j));
    return all;
  }
  for (; place < places(); ++place)
    if (is_tensor(place)) all.push_back(var(place));
  return all;
}

Tensor Call::values(int place, const char* keyword) {
  if (is_tensor(place, keyword)) return tensor_of(at(place, keyword));
  return Tensor::scalar(number(at(place, keyword)), f64);
}

Tensor Call::tensor_of(const Json& argument) {
  Var v = tensor(argument);
  return std::find_if(operands_.begin(), operands_.end(), [&](const Operand& o) { return o.var.same(v); })->value;
}

double Call::real(int place, const char* keyword, double otherwise) const {
  return given(place, keyword) ? number(at(place, keyword)) : otherwise;
}
int64_t Call::integer(int place, const char* keyword, int64_t otherwise) const {
  if (!given(place, keyword)) return otherwise;
  const Json& j = at(place, keyword);
  if (j.is_number_float()) throw ValueError("argument " + j.dump() + " is no whole number");
  return as<int64_t>(j);
}
bool Call::flag(int place, const char* keyword, bool otherwise) const {
  return given(place, keyword) ? as<bool>(at(place, keyword)) : otherwise;
}
std::string Call::word(int place, const char* keyword, const char* otherwise) const {
  return given(place, keyword) ? as<std::string>(at(place, keyword)) : otherwise;
}
Ints Call::ints(int place, const char* keyword, Ints otherwise) const {
  if (!given(place, keyword)) return otherwise;
  const Json& j = at(place, keyword);
  return j.is_array() ? as<Ints>(j) : Ints{as<int64_t>(j)};
}
std::vector<std::optional<int64_t>> Call::open_ints(int place, const char* keyword) const {
  std::vector<std::optional<int64_t>> all;
  const Json& given = at(place, keyword);
  for (const Json& j : given.is_array() ? given : Json::array({given}))
    all.push_back(j.is_null() ? std::optional<int64_t>() : as<int64_t>(j));
  return all;
}
std::vector<double> Call::reals(int place, const char* keyword) const {
  const Json& given = at(place, keyword);
  std::vector<double> all;
  for (const Json& j : given.is_array() ? given : Json::array({given})) all.push_back(number(j));
  return all;
}
std::pair<Ints, Ints> Call::two_lists(int place, const char* keyword) const {
  return as<std::pair<Ints, Ints>>(at(place, keyword));
}
DType Call::dtype(int place, const char* keyword, DType otherwise) const {
  return given(place, keyword) ? dtype_from(at(place, keyword).at("dtype").get<std::string>()) : otherwise;
}

Var Call::input(const std::string& name) const {
  const Operand* o = find(name);
  return o ? o->var : Var();
}
Tensor Call::fed(const std::string& name) const {
  const Operand* o = find(name);
  return o ? o->value : Tensor();
}
Feeds Call::feeds() const {
  Feeds all;
  for (const Operand& o : operands_) all.emplace_back(o.name, o.value);
  return all;
}

}  // namespace whence::opinfo
