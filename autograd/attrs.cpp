#include "whence/autograd/attrs.h"

#include <fmt/format.h>

#include "whence/autograd/body.h"

namespace whence {

void Attrs::set(Attr a) {
  for (Attr& have : list_)
    if (std::strcmp(have.name, a.name) == 0) {
      have.value = std::move(a.value);
      return;
    }
  list_.push_back(std::move(a));
}

static bool same(const AttrValue& a, const AttrValue& b) {
  if (a.index() != b.index()) return false;
  return std::visit(
      [&](const auto& x) {
        using T = std::decay_t<decltype(x)>;
        const T& y = std::get<T>(b);
        if constexpr (std::is_same_v<T, Tensor>)
          return x.raw() == y.raw() && x.dtype() == y.dtype() && x.shape() == y.shape() && x.strides() == y.strides();
        else if constexpr (std::is_same_v<T, double>)
          return std::memcmp(&x, &y, sizeof x) == 0;  // -0.0 and 0.0 are different constants
        else if constexpr (std::is_same_v<T, std::shared_ptr<const Body>>) return x == y || *x == *y;
        else return x == y;
      },
      a);
}

bool Attrs::operator==(const Attrs& o) const {
  if (list_.size() != o.list_.size()) return false;
  for (size_t i = 0; i < list_.size(); ++i)
    if (std::strcmp(list_[i].name, o.list_[i].name) != 0 || !same(list_[i].value, o.list_[i].value)) return false;
  return true;
}

size_t Attrs::hash() const {
  size_t h = list_.size();
  auto mix = [&](size_t v) { h ^= v + 0x9e3779b97f4a7c15ull + (h << 6) + (h >> 2); };
  for (const Attr& a : list_) {
    mix(std::hash<std::string_view>()(a.name));
    std::visit(
        [&](const auto& x) {
          using T = std::decay_t<decltype(x)>;
          if constexpr (std::is_same_v<T, Ints>)
            for (int64_t v : x) mix(size_t(v));
          else if constexpr (std::is_same_v<T, Tensor>) mix(std::hash<const void*>()(x.raw()));
          else if constexpr (std::is_same_v<T, std::shared_ptr<const Body>>) mix(x->hash());
          else mix(std::hash<T>()(x));
        },
        a.value);
  }
  return h;
}

std::string Attrs::str() const {
  if (list_.empty()) return "";
  std::string s = "{";
  for (const Attr& a : list_) {
    if (s.size() > 1) s += ", ";
    s += a.name;
    s += '=';
    std::visit(
        [&](const auto& x) {
          using T = std::decay_t<decltype(x)>;
          if constexpr (std::is_same_v<T, Ints>)
            s += Shape(std::span<const int64_t>(x.data(), std::min<size_t>(x.size(), 8))).str();
          else if constexpr (std::is_same_v<T, Tensor>)
            s += x.numel() == 1 ? fmt::format("{:g}", x.item()) : x.shape().str();
          else if constexpr (std::is_same_v<T, DType>) s += name_of(x);
          else if constexpr (std::is_same_v<T, std::shared_ptr<const Body>>)
            s += fmt::format("{} nodes", x->graph().node_count());
          else if constexpr (std::is_same_v<T, double>) s += fmt::format("{:g}", x);
          else s += fmt::format("{}", x);
        },
        a.value);
  }
  return s + "}";
}

}  // namespace whence
