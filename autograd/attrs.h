// Attributes of a node: a short list of named values. Nodes without attributes pay nothing.
#pragma once
#include <cstring>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "whence/tensor/tensor.h"

namespace whence {

class Body;  // autograd/body.h

using Ints = std::vector<int64_t>;
using AttrValue = std::variant<int64_t, double, DType, std::string, Ints, Tensor, std::shared_ptr<const Body>>;

struct Attr {
  const char* name;  ///< a string literal
  AttrValue value;
  Attr(const char* n, int64_t v) : name(n), value(v) {}
  Attr(const char* n, int v) : name(n), value(int64_t(v)) {}
  Attr(const char* n, bool v) : name(n), value(int64_t(v)) {}
  Attr(const char* n, double v) : name(n), value(v) {}
  Attr(const char* n, DType v) : name(n), value(v) {}
  Attr(const char* n, std::string v) : name(n), value(std::move(v)) {}
  Attr(const char* n, Ints v) : name(n), value(std::move(v)) {}
  Attr(const char* n, const Shape& v) : name(n), value(Ints(v.begin(), v.end())) {}
  Attr(const char* n, Tensor v) : name(n), value(std::move(v)) {}
  Attr(const char* n, std::shared_ptr<const Body> v) : name(n), value(std::move(v)) {}
};

class Attrs {
 public:
  Attrs() = default;
  Attrs(std::initializer_list<Attr> list) : list_(list) {}
  /// The attribute's value. \throws ValueError when it is absent or of another type.
  template <class T> const T& get(const char* name) const {
    const AttrValue* v = find(name);
    if (!v) throw ValueError(std::string("missing attribute '") + name + "'");
    if (const T* t = std::get_if<T>(v)) return *t;
    throw ValueError(std::string("attribute '") + name + "' has another type");
  }
  int64_t integer(const char* name) const { return get<int64_t>(name); }
  int64_t integer(const char* name, int64_t otherwise) const { return find(name) ? get<int64_t>(name) : otherwise; }
  double real(const char* name) const { return get<double>(name); }
  double real(const char* name, double otherwise) const { return find(name) ? get<double>(name) : otherwise; }
  bool flag(const char* name) const { return integer(name, 0) != 0; }
  const Ints& ints(const char* name) const { return get<Ints>(name); }
  Shape shape(const char* name) const { return Shape(std::span<const int64_t>(ints(name))); }
  DType dtype(const char* name) const { return get<DType>(name); }
  const std::string& text(const char* name) const { return get<std::string>(name); }
  const Tensor& tensor(const char* name) const { return get<Tensor>(name); }
  const std::shared_ptr<const Body>& body(const char* name) const { return get<std::shared_ptr<const Body>>(name); }
  bool has(const char* name) const { return find(name) != nullptr; }
  void set(Attr a);

  const std::vector<Attr>& list() const { return list_; }
  bool operator==(const Attrs& o) const;  ///< tensors compare by identity (same memory), bodies by structure
  size_t hash() const;
  std::string str() const;  ///< "{axes=[1], keepdim=1}"

 private:
  const AttrValue* find(const char* name) const {
    for (const Attr& a : list_)
      if (a.name == name || std::strcmp(a.name, name) == 0) return &a.value;
    return nullptr;
  }
  std::vector<Attr> list_;
};

}  // namespace whence
