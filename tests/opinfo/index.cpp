// Indexing, scattering, searching.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/opinfo/runner.h"

namespace whence::opinfo {
namespace {

constexpr int kKeyword = Call::kKeyword;

// Where a mask is true: one list of positions per axis.
std::vector<Tensor> true_positions(const Tensor& mask) {
  std::vector<std::vector<int64_t>> at(size_t(mask.rank()));
  std::vector<double> values = mask.to_vector<double>();
  for (size_t flat = 0; flat < values.size(); ++flat) {
    if (values[flat] == 0) continue;
    int64_t rest = int64_t(flat);
    for (int axis = mask.rank() - 1; axis >= 0; rest /= mask.shape()[axis--])
      at[size_t(axis)].push_back(rest % mask.shape()[axis]);
  }
  std::vector<Tensor> lists;
  for (const auto& list : at) lists.push_back(Tensor::from(list));
  return lists;
}

Tensor positions(const Json& list) {
  std::vector<int64_t> at;
  Shape shape;
  std::function<void(const Json&, int)> walk = [&](const Json& j, int depth) {
    if (!j.is_array()) return at.push_back(j.get<int64_t>());
    if (shape.rank() == depth) shape.push_back(int64_t(j.size()));
    for (const Json& inner : j) walk(inner, depth + 1);
  };
  walk(list, 0);
  return Tensor::from(at, shape);
}

// x indexed as x[items] is in Python: whole numbers, slices, None, "...", lists, tensors of positions, and masks.
class Subscript {
 public:
  Subscript(Call& call, const Json& index) : call_(call), x_(call.var(0)) {
    // A list counts as a tuple when it holds something other than numbers.
    bool tuple =
        index.is_array() && std::any_of(index.begin(), index.end(), [](const Json& j) { return !j.is_number(); });
    Json items = tuple ? index : Json::array({index});
    int used = 0;
    for (const Json& item : items) used += consumed(item);
    for (const Json& item : items) {
      if (item.is_object() && item.contains("ellipsis")) axis_ = x_.rank() - used;
      else take(item), used -= consumed(item);
    }
  }

  Var result() {
    if (at_.empty()) return x_;
    // Neighbours stay in place, others come first.
    bool apart = false;
    for (size_t i = 1; i < at_.size(); ++i) apart |= at_[i].first != at_[i - 1].first + 1;
    int64_t first = apart ? 0 : at_[0].first;
    if (apart) {
      Ints order, rest;
      for (auto& [axis, index] : at_) order.push_back(axis);
      for (int axis = 0; axis < x_.rank(); ++axis)
        if (std::find(order.begin(), order.end(), axis) == order.end()) rest.push_back(axis);
      order.insert(order.end(), rest.begin(), rest.end());
      x_ = permute(x_, order);
    }
    // The axes become one, and so do the positions.
    Shape merged;
    int last = int(first) + int(at_.size()) - 1;
    int64_t length = 1;
    Var flat;
    for (int i = 0; i < x_.rank(); ++i) {
      int64_t n = x_.shape()[i];
      if (i < first || i > last) merged.push_back(n);
      else {
        Var index = at_[size_t(i - first)].second;
        if (at_.size() > 1) index = where(less(index, 0), index + double(n), index);
        flat = flat.defined() ? flat * double(n) + index : index;
        length *= n;
        if (i == last) merged.push_back(length);
      }
    }
    return gather(reshape(x_, merged), flat, first);
  }

 private:
  int consumed(const Json& item) {
    if (item.is_null() || (item.is_object() && item.contains("ellipsis"))) return 0;
    if (!item.is_object() || !item.contains("t")) return 1;
    Tensor t = call_.tensor_of(item);
    return t.dtype() == boolean ? t.rank() : 1;
  }
  void take(const Json& item) {
    if (item.is_null()) {
      x_ = unsqueeze(x_, axis_++);
    } else if (item.is_number()) {
      x_ = select(x_, axis_, item.get<int64_t>());
    } else if (item.is_array()) {
      at_.emplace_back(axis_++, call_.g.constant(positions(item)));
    } else if (item.contains("slice")) {
      const Json& s = item.at("slice");
      int64_t n = x_.size(int(axis_));
      auto bound = [&](const Json& j, int64_t otherwise) {
        int64_t at = j.is_null() ? otherwise : j.get<int64_t>();
        return std::clamp<int64_t>(at < 0 ? at + n : at, 0, n);
      };
      int64_t begin = bound(s[0], 0), end = std::max(begin, bound(s[1], n));
      x_ = slice(x_, axis_++, begin, end, s[2].is_null() ? 1 : s[2].get<int64_t>());
    } else {
      Tensor t = call_.tensor_of(item);
      if (t.dtype() == boolean) {
        for (const Tensor& list : true_positions(t)) at_.emplace_back(axis_++, call_.g.constant(list));
      } else if (t.rank() == 0) {
        x_ = select(x_, axis_, int64_t(t.item()));
      } else {
        at_.emplace_back(axis_++, call_.g.constant(t));
      }
    }
  }
  Call& call_;
  Var x_;
  int64_t axis_ = 0;
  std::vector<std::pair<int64_t, Var>> at_;
};

Var selected_by_mask(Call& call) {
  Var x = call.var(0), mask = call.var(1);
  Shape both = broadcast_shapes(x.shape(), mask.shape());
  Tensor flat = call.values(1).broadcast_to(both).reshaped({-1});
  return gather(reshape(broadcast_to(x, both), {-1}), call.g.constant(true_positions(flat)[0]));
}

// src cut to index's extents, as the reference reads it; a number becomes a tensor of them.
Var source(Call& call, int place, Var x, Var index) {
  if (!call.is_tensor(place, "src")) return full(call.g, index.shape(), call.real(place, "value", 0), x.dtype());
  Var src = call.var(place, "src");
  if (src.rank() != index.rank()) throw ShapeError("scatter: src has not index's rank");
  if (src.dtype() != x.dtype()) throw DTypeError("scatter: src has not x's dtype");
  for (int axis = 0; axis < src.rank(); ++axis) src = slice(src, axis, 0, index.shape()[axis]);
  return src;
}

Var scattered(Call& call, Var base, bool add) {
  Var index = call.var(2, "index"), src = source(call, 3, base, index);
  int64_t axis = call.integer(1, "dim", 0);
  return add ? scatter_add(base, index, src, axis) : put_along_axis(base, index, src, axis);
}

Var scattered_sum(Call& call) {
  Var x = call.var(0), index = call.var(2, "index");
  if (call.word(4, "reduce", "sum") != "sum") throw OptionMissing("reduces otherwise");
  if (call.flag(5, "include_self", true)) return scattered(call, x, true);
  Var hits = scatter_add(zeros_like(x), index, full(call.g, index.shape(), 1, x.dtype()), call.integer(1, "dim", 0));
  return scattered(call, where(greater(hits, 0), 0, x), true);
}

Var as_list(Var index) { return index.rank() ? index : reshape(index, {1}); }

// bool: the positions of `axis` that index names, beside x's axes.
Var named(Var x, Var index, int64_t axis) {
  int64_t n = x.size(int(axis));
  Var hit = any(
      equal(unsqueeze(arange(x.graph(), n, index.dtype()), 1), where(less(index, 0), index + double(n), index)), {1});
  Shape beside = Shape::filled(x.rank(), 1);
  beside[normalize_axis(axis, x.rank())] = n;
  return reshape(hit, beside);
}

Var with_slices_added(Call& call, Var base, double alpha) {
  Var src = call.var(3, "source");
  return index_add(base, as_list(call.var(2, "index")), alpha == 1 ? src : src * alpha, call.integer(1, "dim", 0));
}

// How many boundaries [.., n] lie below each of x [.., m], or not above it.
Var place_among(Call& call, Var boundaries, Var x, bool paired) {
  bool right = call.flag(kKeyword, "right", false) || call.word(kKeyword, "side", "left") == "right";
  if (call.given(kKeyword, "sorter")) boundaries = take_along_axis(boundaries, call.var(kKeyword, "sorter"), -1);
  if (!paired && boundaries.rank() != 1) throw ShapeError("bucketize: the boundaries have more than one axis");
  Var before = unsqueeze(x, -1), at = boundaries.rank() > 1 ? unsqueeze(boundaries, -2) : boundaries;
  Var not_below = right ? greater(at, before) : greater_equal(at, before);
  Var count = sum(cast(logical_not(not_below), i64), {-1});
  return call.flag(kKeyword, "out_int32", false) ? cast(count, i32) : count;
}

Var embedded_ids(Call& call) {
  Var weight = call.var(0), ids = call.var(1);
  int64_t padding = call.integer(2, "padding_idx", -1), rows = weight.rank() ? weight.size(0) : 0;
  if (call.given(2, "padding_idx") && padding < 0) padding += rows;
  if (call.given(3, "max_norm")) {  // the rows are changed where they lie, which gradients do not see
    double most = call.real(3, "max_norm", 0);
    Var norm = vector_norm(weight, call.real(4, "norm_type", 2), {1}, true);
    weight = weight + stop_gradient(where(greater(norm, most), weight * most / (norm + 1e-7), weight) - weight);
  }
  Var y = embedding(ids, weight, padding);
  if (!call.flag(5, "scale_grad_by_freq", false)) return y;
  Var times = segment_sum(full(call.g, ids.shape(), 1, weight.dtype()), ids, 0, rows);
  Var share = y / unsqueeze(gather(times, ids), -1);
  return share + stop_gradient(y - share);
}

}  // namespace

Table index_rows() {
  return {
      {"__getitem__", [](Call& call) { return Subscript(call, call.at(1)).result(); }},
      {"take", [](Call& call) { return gather(reshape(call.var(0), {-1}), call.var(1, "index")); }},
      {"masked_select", selected_by_mask},
      {"gather",
       [](Call& call) { return take_along_axis(call.var(0), call.var(2, "index"), call.integer(1, "dim", 0)); }},
      {"take_along_dim",
       [](Call& call) {
         Var x = call.var(0), index = call.var(1, "indices");
         if (!call.given(2, "dim")) return take_along_axis(reshape(x, {-1}), reshape(index, {-1}), 0);
         int axis = normalize_axis(call.integer(2, "dim", 0), x.rank());
         if (index.rank() != x.rank()) throw ShapeError("take_along_dim: index has not x's rank");
         Shape of_x = x.shape(), of_index = index.shape();
         of_x[axis] = of_index[axis] = 1;
         of_index = of_x = broadcast_shapes(of_x, of_index);
         of_x[axis] = x.shape()[axis];
         of_index[axis] = index.shape()[axis];
         return take_along_axis(broadcast_to(x, of_x), broadcast_to(index, of_index), axis);
       }},
      {"index_select",
       [](Call& call) { return gather(call.var(0), as_list(call.var(2, "index")), call.integer(1, "dim", 0)); }},
      {"index_add", [](Call& call) { return with_slices_added(call, call.var(0), call.real(kKeyword, "alpha", 1)); }},
      {"index_copy",
       [](Call& call) {
         Var x = call.var(0), hit = named(x, as_list(call.var(2, "index")), call.integer(1, "dim", 0));
         return where(hit, with_slices_added(call, zeros_like(x), 1), x);
       }},
      {"index_fill",
       [](Call& call) {
         Var x = call.var(0);
         return where(named(x, as_list(call.var(2, "index")), call.integer(1, "dim", 0)), call.arg(3, "value"), x);
       }},
      {"select_scatter",
       [](Call& call) {
         Var x = call.var(0);
         int64_t axis = call.integer(2, "dim", 0), n = x.size(int(axis)), at = call.integer(3, "index", 0);
         if (at < -n || at >= n) throw ShapeError("select_scatter: index out of range");
         return where(named(x, call.g.constant(Tensor::from(std::vector<int64_t>{at})), axis),
                      unsqueeze(call.var(1), axis), x);
       }},
      {"scatter",
       [](Call& call) {
         std::string reduce = call.word(kKeyword, "reduce", "");
         if (reduce == "multiply") throw OptionMissing("multiplies");
         return scattered(call, call.var(0), reduce == "add");
       }},
      {"scatter_add", [](Call& call) { return scattered(call, call.var(0), true); }},
      {"scatter_reduce.sum", scattered_sum},
      {"searchsorted", [](Call& call) { return place_among(call, call.var(0), call.var(1), true); }},
      {"bucketize", [](Call& call) { return place_among(call, call.var(1), call.var(0), false); }},
      {"isin",
       [](Call& call) {
         Var found = any(equal(unsqueeze(call.var(0), -1), reshape(call.var(1), {-1})), {-1});
         return call.flag(kKeyword, "invert", false) ? logical_not(found) : found;
       }},
      {"nn.functional.one_hot",
       [](Call& call) {
         int64_t classes = call.integer(1, "num_classes", -1);
         if (classes == -1)
           for (int64_t id : call.values(0).to_vector<int64_t>()) classes = std::max(classes, id + 1);
         return one_hot(call.var(0), classes, i64);
       }},
      {"nn.functional.embedding", embedded_ids},
  };
}

}  // namespace whence::opinfo
