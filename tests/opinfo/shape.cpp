// Views, copies, splits, concatenations, diagonals, and what is made of nothing.
#include <algorithm>
#include <cmath>

#include "tests/opinfo/runner.h"

namespace whence::opinfo {

Var with_axes_moved(Var x, Ints from, Ints to) {
  if (from.size() != to.size()) throw ValueError("movedim: not one destination per source");
  Ints axes(size_t(x.rank()), -1), rest;
  for (size_t i = 0; i < from.size(); ++i) {
    int64_t& place = axes[size_t(normalize_axis(to[i], x.rank()))];
    from[i] = normalize_axis(from[i], x.rank());
    if (place >= 0) throw ValueError("movedim: a destination is named twice");
    place = from[i];
  }
  for (int axis = 0; axis < x.rank(); ++axis)
    if (std::find(from.begin(), from.end(), axis) == from.end()) rest.push_back(axis);
  auto next = rest.begin();
  for (int64_t& place : axes)
    if (place < 0) {
      if (next == rest.end()) throw ValueError("movedim: a source is named twice");
      place = *next++;
    }
  return permute(x, axes);
}

namespace {

constexpr int kKeyword = Call::kKeyword;

template <class F> Builder unary(F f) {
  return [f](Call& call) { return Outputs(f(call.var(0))); };
}

// Extents as one list or as the arguments from a place on.
Shape extents(const Call& call, int place, const char* keyword = "") {
  if (call.is_list(place, keyword) || place >= call.places()) return Shape(call.ints(place, keyword));
  Shape shape;
  for (; place < call.places(); ++place) shape.push_back(call.integer(place, "", 0));
  return shape;
}

Shape expanded(Var x, Shape shape) {
  int ahead = shape.rank() - x.rank();
  for (int i = std::max(ahead, 0); i < shape.rank(); ++i)
    if (shape[i] == -1) shape[i] = x.shape()[i - ahead];
  return shape;
}

Var at_least(Var x, int rank) {
  Shape shape = x.shape();
  while (shape.rank() < rank) shape.insert(shape.rank() == 2 || shape.rank() == 0 ? shape.rank() : 0, 1);
  return reshape(x, shape);
}
Builder at_least(int rank) {
  return [rank](Call& call) {
    Outputs all;
    for (Var x : call.vars()) all.push_back(at_least(x, rank));
    return all;
  };
}

Var as_matrix(Var x, int64_t min_rank, int64_t max_rank, const char* name) {
  if (x.rank() < min_rank || x.rank() > max_rank) throw ShapeError(std::string(name) + ": rank of " + x.shape().str());
  return x;
}

Outputs broadcast(const std::vector<Var>& xs) {
  Shape shape;
  for (Var x : xs) shape = broadcast_shapes(shape, x.shape());
  Outputs all;
  for (Var x : xs) all.push_back(broadcast_to(x, shape));
  return all;
}

// [n0], [n1], .. -> each [n0, n1, ..]; "xy" exchanges the first two axes.
Outputs grid_of(const std::vector<Var>& xs, bool xy = false) {
  std::vector<Var> beside;
  for (size_t i = 0; i < xs.size(); ++i) {
    if (xs[i].rank() > 1) throw ShapeError("meshgrid: more than one axis");
    Shape shape = Shape::filled(int(xs.size()), 1);
    shape[int(i)] = xs[i].numel();
    beside.push_back(reshape(xs[i], shape));
  }
  Outputs all = broadcast(beside);
  if (xy && xs.size() > 1)
    for (Var& x : all) x = transpose(x, 0, 1);
  return all;
}

Outputs meshgrid(Call& call) {
  std::string indexing = call.word(kKeyword, "indexing", "ij");
  if (indexing != "ij" && indexing != "xy") throw ValueError("meshgrid: unknown indexing '" + indexing + "'");
  return grid_of(call.vars(), indexing == "xy");
}

// ---- pieces --------------------------------------------------------------------------------------------------------
Ints equal_sizes(int64_t n, int64_t size) {
  if (size < 1 && n > 0) throw ValueError("split: pieces of nothing");
  Ints sizes;
  for (int64_t left = n; left > 0; left -= size) sizes.push_back(std::min(size, left));
  return sizes.empty() ? Ints{0} : sizes;
}

Outputs split_by_size(Call& call) {
  Var x = call.var(0);
  int64_t axis = call.integer(2, "dim", 0);
  bool sizes_given = call.is_list(1, "split_sizes");
  return split(x, sizes_given ? call.ints(1, "split_sizes") : equal_sizes(x.size(int(axis)), call.integer(1, "", 1)),
               axis);
}

Outputs chunks(Call& call) {
  Var x = call.var(0);
  int64_t parts = call.integer(1, "chunks", 1), axis = call.integer(2, "dim", 0), n = x.size(int(axis));
  if (parts < 1) throw ValueError("chunk: no parts");
  int64_t size = (n + parts - 1) / parts;
  return split(x, n ? equal_sizes(n, size) : Ints(size_t(parts), 0), axis);
}

int64_t clipped(int64_t at, int64_t n) { return std::clamp<int64_t>(at < 0 ? at + n : at, 0, n); }

// In `parts` nearly equal parts, the longer ones first.
Outputs in_parts(Var x, int64_t parts, int64_t axis) {
  if (parts < 1) throw ValueError("tensor_split: no parts");
  int64_t n = x.size(int(axis));
  Ints sizes;
  for (int64_t i = 0; i < parts; ++i) sizes.push_back(n / parts + (i < n % parts));
  return split(x, sizes, axis);
}
// Before each position; positions are clipped, and one below the last gives an empty piece.
Outputs before_positions(Var x, Ints at, int64_t axis) {
  int64_t n = x.size(int(axis)), begin = 0;
  at.push_back(n);
  Outputs pieces;
  for (int64_t position : at) {
    int64_t from = clipped(begin, n), to = std::max(from, clipped(position, n));
    pieces.push_back(slice(x, axis, from, to));
    begin = position;
  }
  return pieces;
}

Outputs tensor_split(Call& call) {
  Var x = call.var(0);
  int64_t axis = call.integer(2, "dim", 0);
  if (call.is_tensor(1)) {
    Ints at = call.values(1).to_vector<int64_t>();
    return call.var(1).rank() ? before_positions(x, at, axis) : in_parts(x, at[0], axis);
  }
  if (call.is_list(1, "indices")) return before_positions(x, call.ints(1, "indices"), axis);
  return in_parts(x, call.integer(1, "sections", 1), axis);
}

// hsplit, vsplit, dsplit: along an axis that x must have, in equal parts or before positions.
Builder split_along(int64_t axis) {
  return [axis](Call& call) {
    Var x = call.var(0);
    int64_t along = axis == 1 && x.rank() == 1 ? 0 : axis;
    if (x.rank() < std::max<int64_t>(along + 1, axis == 0 ? 2 : 1)) throw ShapeError("split: x has too few axes");
    if (call.is_list(1, "indices")) return before_positions(x, call.ints(1, "indices"), along);
    return Outputs(chunk(x, call.integer(1, "sections", 1), along));
  };
}

Var narrowed(Call& call) {
  Var x = call.var(0);
  int64_t axis = call.integer(1, "dim", 0), length = call.integer(3, "length", 0), begin;
  if (call.is_tensor(2)) {
    if (call.var(2).rank() || !is_integer(call.var(2).dtype())) throw DTypeError("narrow: start is no integer");
    begin = call.values(2).to_vector<int64_t>()[0];
  } else {
    begin = call.integer(2, "start", 0);
  }
  if (length < 0) throw ValueError("narrow: negative length");
  int64_t from = begin < 0 ? begin + x.size(int(axis)) : begin;
  return slice(x, axis, begin < 0 && from < 0 ? begin : from, from + length);
}

Var sliced(Call& call) {
  Var x = call.var(0);
  int64_t axis = call.integer(1, "dim", 0), n = x.size(int(axis));
  int64_t begin = clipped(call.integer(2, "start", 0), n), end = clipped(call.integer(3, "end", n), n);
  return slice(x, axis, begin, std::max(begin, end), call.integer(4, "step", 1));
}

Outputs unbound(Call& call) {
  Var x = call.var(0);
  int64_t axis = call.integer(1, "dim", 0);
  Outputs all;
  for (int64_t i = 0, n = x.size(int(axis)); i < n; ++i) all.push_back(select(x, axis, i));
  return all;
}

// ---- shapes --------------------------------------------------------------------------------------------------------
Var squeezed(Call& call) {
  Var x = call.var(0);
  std::vector<bool> named(size_t(x.rank()), !call.given(1, "dim"));
  for (int64_t axis : call.ints(1, "dim")) named[size_t(normalize_axis(axis, x.rank()))] = true;
  Shape left;
  for (int i = 0; i < x.rank(); ++i)
    if (!named[size_t(i)] || x.shape()[i] != 1) left.push_back(x.shape()[i]);
  return reshape(x, left);
}

Var flattened(Call& call) {
  Var x = call.var(0);
  if (x.rank() == 0) return reshape(x, {1});
  int first = normalize_axis(call.integer(1, "start_dim", 0), x.rank());
  int last = normalize_axis(call.integer(2, "end_dim", -1), x.rank());
  if (first > last) throw ValueError("flatten: start is behind end");
  Shape shape;
  int64_t merged = 1;
  for (int i = 0; i < x.rank(); ++i) {
    if (i < first || i > last) shape.push_back(x.shape()[i]);
    else merged *= x.shape()[i];
    if (i == last) shape.push_back(merged);
  }
  return reshape(x, shape);
}

Var unflattened(Call& call) {
  Var x = call.var(0);
  int axis = normalize_axis(call.integer(1, "dim", 0), x.rank());
  Ints sizes = call.ints(2, "sizes");
  int64_t known = 1;
  for (int64_t n : sizes) known *= n == -1 ? 1 : n;
  Shape shape;
  for (int i = 0; i < x.rank(); ++i) {
    if (i != axis) shape.push_back(x.shape()[i]);
    else
      for (int64_t n : sizes) shape.push_back(n == -1 ? x.shape()[i] / known : n);
  }
  return reshape(x, shape);
}

Var rolled(Call& call) {
  Var x = call.var(0);
  Ints shifts = call.ints(1, "shifts");
  if (shifts.empty()) throw ValueError("roll: no shifts");
  if (call.given(2, "dims")) return roll(x, shifts, call.ints(2, "dims"));
  return reshape(roll(reshape(x, {-1}), shifts, {0}), x.shape());
}

Builder half_rolled(bool back) {
  return [back](Call& call) {
    Var x = call.var(0);
    Ints axes = axes_of(call, 1, x), shifts;
    for (int64_t axis : axes) shifts.push_back(back ? -(x.size(int(axis)) / 2) : x.size(int(axis)) / 2);
    return Outputs(roll(x, shifts, axes));
  };
}

Var rotated(Call& call) {
  Var x = call.var(0);
  Ints axes = call.ints(2, "dims", {0, 1});
  if (axes.size() != 2) throw ValueError("rot90: not two axes");
  int64_t a = normalize_axis(axes[0], x.rank()), b = normalize_axis(axes[1], x.rank());
  if (a == b) throw ValueError("rot90: an axis is named twice");
  switch ((call.integer(1, "k", 1) % 4 + 4) % 4) {
    case 1: return transpose(flip(x, {b}), a, b);
    case 2: return flip(x, {a, b});
    case 3: return transpose(flip(x, {a}), a, b);
    default: return x;
  }
}

Var repeated(Call& call) {
  Ints repeats;
  for (int64_t n : extents(call, 1, "repeats")) repeats.push_back(n);
  return repeat(call.var(0), repeats);
}

// Every element of an axis as often as a number, or its own number, says.
Var each_repeated(Call& call) {
  Var x = call.var(0);
  bool flat = !call.given(2, "dim");
  if (flat) x = reshape(x, {-1});
  int64_t axis = flat ? 0 : call.integer(2, "dim", 0);
  if (!call.is_tensor(1, "repeats")) return repeat_interleave(x, call.integer(1, "repeats", 1), axis);
  std::vector<int64_t> counts = call.values(1, "repeats").to_vector<int64_t>(), at;
  if (counts.size() == 1) return repeat_interleave(x, counts[0], axis);
  for (size_t i = 0; i < counts.size(); ++i) at.insert(at.end(), size_t(counts[i]), int64_t(i));
  return gather(x, call.g.constant(Tensor::from(at)), axis);
}

// ---- one beside the other ------------------------------------------------------------------------------------------
Builder joined(int rank, int64_t axis) {
  return [=](Call& call) {
    std::vector<Var> parts;
    for (Var x : call.vars()) parts.push_back(at_least(x, rank));
    if (parts.empty()) throw ValueError("stack: nothing");
    return Outputs(concat(parts, rank == 1 && parts[0].rank() > 1 ? 1 : axis));
  };
}

Var block_diagonal(Call& call) {
  std::vector<Var> rows;
  int64_t width = 0, at = 0;
  for (Var x : call.vars()) {
    rows.push_back(at_least(as_matrix(x, 0, 2, "block_diag"), 2));
    width += rows.back().shape()[1];
  }
  for (Var& x : rows) {
    int64_t n = x.shape()[1];
    x = pad(x, {0, 0, at, width - at - n});
    at += n;
  }
  return concat(rows, 0);
}

// ---- diagonals -----------------------------------------------------------------------------------------------------
// bool [m, n]: column - row is k.
Var on_diagonal(Graph& g, int64_t m, int64_t n, int64_t k) {
  return equal(unsqueeze(arange(g, n), 0), unsqueeze(arange(g, m), 1) + double(k));
}

// x [.., n] -> [.., n + |k|, n + |k|]
Var embedded(Var x, int64_t k) {
  Ints pads(2 * size_t(x.rank()), 0);
  pads[pads.size() - 2] = std::max<int64_t>(-k, 0);
  pads[pads.size() - 1] = std::max<int64_t>(k, 0);
  Var padded = pad(x, pads);
  int64_t n = padded.shape()[-1];
  return where(on_diagonal(x.graph(), n, n, k), unsqueeze(padded, -1), 0);
}

void different_axes(int64_t a, int64_t b, int rank) {
  if (normalize_axis(a, rank) == normalize_axis(b, rank)) throw ShapeError("diagonal: the axes are one");
}

Builder diagonal_of(int64_t a, int64_t b) {
  return [=](Call& call) {
    return Outputs(
        diagonal(call.var(0), call.integer(1, "offset", 0), call.integer(2, "dim1", a), call.integer(3, "dim2", b)));
  };
}

Var embedded_between(Call& call) {
  Var x = call.var(0);
  int64_t a = call.integer(2, "dim1", -2), b = call.integer(3, "dim2", -1);
  different_axes(a, b, x.rank() + 1);
  return with_axes_moved(embedded(x, call.integer(1, "offset", 0)), {-2, -1}, {a, b});
}

// src [.., L] written on a diagonal of x.
Var diagonal_written(Call& call) {
  Var x = call.var(0), src = call.var(1);
  int64_t k = call.integer(2, "offset", 0), a = call.integer(3, "dim1", 0), b = call.integer(4, "dim2", 1);
  different_axes(a, b, x.rank());
  Var there = diagonal(x, k, a, b), seen = with_axes_moved(x, {a, b}, {-2, -1});
  if (!(src.shape() == there.shape())) throw ShapeError("diagonal_scatter: src is no diagonal of x");
  int64_t m = seen.shape()[-2], ahead = std::max<int64_t>(-k, 0);
  Ints pads(2 * size_t(src.rank()), 0);
  pads[pads.size() - 2] = ahead;
  pads[pads.size() - 1] = m - ahead - src.shape()[-1];
  Var placed = where(on_diagonal(call.g, m, seen.shape()[-1], k), unsqueeze(pad(src, pads), -1), seen);
  return with_axes_moved(placed, {-2, -1}, {a, b});
}

// ---- of nothing ----------------------------------------------------------------------------------------------------
Builder filled(int shape_at, double otherwise, int value_at = -1) {
  return [=](Call& call) {
    DType dtype = call.is_tensor(0) ? call.var(0).dtype() : f32;
    Shape shape = shape_at < 0 ? call.var(0).shape() : extents(call, shape_at, "size");
    double value = value_at < 0 ? otherwise : call.real(value_at, "fill_value", 0);
    return Outputs(full(call.g, shape, value, call.dtype(kKeyword, "dtype", dtype)));
  };
}

Var counted(Call& call) {
  bool from_zero = call.places() == 1 && !call.given(1, "end");
  double begin = from_zero ? 0 : call.real(0, "start", 0), end = call.real(from_zero ? 0 : 1, "end", 0);
  double step = call.real(2, "step", 1), n = (end - begin) / step;
  if (step == 0 || !std::isfinite(n) || n < 0) throw ValueError("arange: the step does not lead from start to end");
  bool whole = true;
  for (int i = 0; i < call.places(); ++i) whole &= call.is_integer(i);
  DType dtype = call.dtype(kKeyword, "dtype", whole ? i64 : f32);
  return cast(arange(call.g, int64_t(std::ceil(n)), f64) * step + begin, dtype);
}

Var evenly_spaced(Call& call) {
  Var begin = call.var(0, "start"), end = call.var(1, "end");
  if (begin.rank() || end.rank()) throw ShapeError("linspace: the ends are no scalars");
  int64_t n = call.integer(2, "steps", 100);
  DType dtype = call.dtype(kKeyword, "dtype", f32);
  Var from = cast(begin, f64), to = cast(end, f64), at = arange(call.g, n, f64);
  Var step = (to - from) / double(std::max<int64_t>(n - 1, 1));
  Var up = from + at * step, down = to - (double(n - 1) - at) * step;
  return cast(n == 1 ? up : where(less(at, double(n / 2)), up, down), dtype);
}

}  // namespace

Table shape_rows() {
  return {
      {"reshape view view_copy", [](Call& call) { return reshape(call.var(0), extents(call, 1, "shape")); }},
      {"reshape_as view_as", [](Call& call) { return reshape(call.var(0), call.var(1).shape()); }},
      {"ravel", unary([](Var x) { return reshape(x, {-1}); })},
      {"flatten", flattened},
      {"unflatten", unflattened},
      {"squeeze squeeze_copy squeeze.multiple", squeezed},
      {"unsqueeze unsqueeze_copy", [](Call& call) { return unsqueeze(call.var(0), call.integer(1, "dim", 0)); }},
      {"expand expand_copy broadcast_to",
       [](Call& call) {
         Var x = call.var(0);
         return broadcast_to(x, expanded(x, extents(call, 1, "size")));
       }},
      {"expand_as", [](Call& call) { return broadcast_to(call.var(0), call.var(1).shape()); }},
      {"broadcast_tensors", [](Call& call) { return broadcast(call.vars()); }},
      {"sum_to_size", [](Call& call) { return sum_to(call.var(0), extents(call, 1, "size")); }},
      {"atleast_1d", at_least(1)},
      {"atleast_2d", at_least(2)},
      {"atleast_3d", at_least(3)},
      {"meshgrid.list_of_tensors meshgrid.variadic_tensors", meshgrid},

      {"permute permute_copy", [](Call& call) { return permute(call.var(0), call.ints(1, "dims")); }},
      {"transpose transpose_copy",
       [](Call& call) { return transpose(call.var(0), call.integer(1, "dim0", 0), call.integer(2, "dim1", 1)); }},
      {"mT mH", unary([](Var x) { return transpose(x); })},
      {"T H t t_copy", unary([](Var x) { return as_matrix(x, 0, 2, "t").rank() < 2 ? x : transpose(x); })},
      {"movedim",
       [](Call& call) { return with_axes_moved(call.var(0), call.ints(1, "source"), call.ints(2, "destination")); }},

      {"split split.list_args split_with_sizes split_with_sizes_copy unsafe_split", split_by_size},
      {"chunk unsafe_chunk", chunks},
      {"tensor_split", tensor_split},
      {"vsplit", split_along(0)},
      {"hsplit", split_along(1)},
      {"dsplit", split_along(2)},
      {"unbind unbind_copy", unbound},
      {"narrow narrow_copy", narrowed},
      {"slice", sliced},
      {"select",
       [](Call& call) { return select(call.var(0), call.integer(1, "dim", 0), call.integer(2, "index", 0)); }},
      {"unfold unfold_copy",
       [](Call& call) {
         return unfold(call.var(0), call.integer(1, "dimension", 0), call.integer(2, "size", 1),
                       call.integer(3, "step", 1));
       }},

      {"cat", [](Call& call) { return concat(call.vars(), call.integer(1, "dim", 0)); }},
      {"stack", [](Call& call) { return stack(call.vars(), call.integer(1, "dim", 0)); }},
      {"hstack", joined(1, 0)},
      {"vstack", joined(2, 0)},
      {"dstack", joined(3, 2)},
      {"column_stack",
       [](Call& call) {
         std::vector<Var> parts;
         for (Var x : call.vars()) parts.push_back(x.rank() < 2 ? reshape(x, {-1, 1}) : x);
         return concat(parts, 1);
       }},
      {"block_diag", block_diagonal},
      {"cartesian_prod",
       [](Call& call) {
         std::vector<Var> xs = call.vars();
         if (xs.size() == 1) return xs[0];
         Outputs grid = grid_of(xs);
         for (Var& x : grid) x = reshape(x, {-1});
         return stack(grid, 1);
       }},

      {"flip", [](Call& call) { return flip(call.var(0), call.ints(1, "dims")); }},
      {"flipud", unary([](Var x) { return flip(x, {0}); })},
      {"fliplr", unary([](Var x) { return flip(x, {1}); })},
      {"roll", rolled},
      {"fft.fftshift", half_rolled(false)},
      {"fft.ifftshift", half_rolled(true)},
      {"rot90", rotated},
      {"repeat tile", repeated},
      {"repeat_interleave", each_repeated},

      {"diagonal diagonal_copy", diagonal_of(0, 1)},
      {"linalg.diagonal", diagonal_of(-2, -1)},
      {"diag_embed", embedded_between},
      {"diagflat", [](Call& call) { return embedded(reshape(call.var(0), {-1}), call.integer(1, "offset", 0)); }},
      {"diag",
       [](Call& call) {
         Var x = as_matrix(call.var(0), 1, 2, "diag");
         int64_t k = call.integer(1, "diagonal", 0);
         return x.rank() == 1 ? embedded(x, k) : diagonal(x, k);
       }},
      {"diagonal_scatter", diagonal_written},
      {"trace", unary([](Var x) { return sum(diagonal(as_matrix(x, 2, 2, "trace"))); })},
      {"tril", [](Call& call) { return tril(call.var(0), call.integer(1, "diagonal", 0)); }},
      {"triu", [](Call& call) { return triu(call.var(0), call.integer(1, "diagonal", 0)); }},

      {"full", filled(0, 0, 1)},
      {"full_like", filled(-1, 0, 1)},
      {"new_full", filled(1, 0, 2)},
      {"zeros", filled(0, 0)},
      {"zeros_like", filled(-1, 0)},
      {"new_zeros", filled(1, 0)},
      {"ones", filled(0, 1)},
      {"ones_like", filled(-1, 1)},
      {"new_ones", filled(1, 1)},
      {"scalar_tensor",
       [](Call& call) { return full(call.g, {}, call.real(0, "s", 0), call.dtype(kKeyword, "dtype", f32)); }},
      {"arange", counted},
      {"linspace", evenly_spaced},
      {"eye",
       [](Call& call) {
         int64_t n = call.integer(0, "n", 0), m = call.integer(1, "m", n);
         return cast(on_diagonal(call.g, n, m, 0), call.dtype(kKeyword, "dtype", f32));
       }},
  };
}

}  // namespace whence::opinfo
