#include "whence/ops/cpu/attention.h"

#include <algorithm>

#include "whence/ops/cpu/micro.h"
#include "whence/tensor/parallel.h"
#include "whence/ops/cpu/row.h"

// Forward holds scores transposed, [keys][NR queries]: maxima, exponentials and sums then run down the keys with one
// query per lane, no sum across lanes is ever needed, and the block is already laid out as the right operand of out^T =
// v^T p^T. Backward holds [queries][NR keys], so that p and ds are right operands of dv^T = dout^T p and dk^T = q^T ds;
// only ds is transposed, for dq = ds k. Five products, nothing of size T x S.
namespace whence::cpu {
namespace {

/// A matrix cut into packed strips of equal height (the last one may be lower).
struct Strips {
  int64_t rows, height, count;
  template <class T> static Strips of(int64_t rows) {
    int64_t count = std::max<int64_t>(1, (rows + Tile<T>::MR - 1) / Tile<T>::MR);
    int64_t height = std::max<int64_t>(1, (rows + count - 1) / count);
    return {rows, height, (rows + height - 1) / height};
  }
  int64_t tall(int64_t s) const { return std::min(height, rows - s * height); }
  template <class T> int64_t packed(int64_t k) const {
    return count * Tile<T>::AS * k;
  }  // elements of all strips at depth k
};

template <class T> constexpr int64_t slack() { return 4 * Vec<T>::size; }

/// Strips of src [rows, k], k-major within a strip.
template <class T> void pack_rows(Strips st, const T* src, int64_t ld, int64_t k, T* dst) {
  for (int64_t s = 0; s < st.count; ++s)
    pack_transposed(src + s * st.height * ld, ld, st.tall(s), k, dst + s * Tile<T>::AS * k, Tile<T>::AS);
}
/// Strips of the transpose of src [k, rows].
template <class T> void pack_columns(Strips st, const T* src, int64_t ld, int64_t k, T* dst) {
  for (int64_t s = 0; s < st.count; ++s)
    pack_straight(src + s * st.height, ld, st.tall(s), k, dst + s * Tile<T>::AS * k, Tile<T>::AS);
}

/// C [strips s0..s1, n <= NR] = beta C + A[:, p0..p1) B[p0..p1), A packed for a full depth of k; b points at row p0.
template <class T> void multiply(Strips st, int64_t s0, int64_t s1, const T* a, int64_t k, int64_t p0, int64_t p1,
                                 const T* b, int64_t bs, T* c, int64_t ldc, int64_t n, bool add) {
  for (int64_t s = s0; s < s1; ++s) {
    int64_t h = st.tall(s);
    kernel_for<T>(h, n)(p1 - p0, a + (s * k + p0) * Tile<T>::AS, b, bs, c + (s - s0) * st.height * ldc, ldc, n, T(1),
                        add ? T(1) : T(0), nullptr);
  }
}

/// rows[q * ld + d] = columns[d * NR + q] * scale[q] for q < nq, d < n; scale may be null.
template <class T> void store_transposed(const T* columns, int64_t n, int64_t nq, const T* scale, T* rows, int64_t ld) {
  using V = Vec<T>;
  constexpr int64_t W = V::size, NR = Tile<T>::NR;
  for (int64_t q0 = 0; q0 < nq; q0 += W) {
    const V s = scale ? V::load(scale + q0) : V(T(1));
    for (int64_t d0 = 0; d0 < n; d0 += W) {
      const int64_t dw = std::min(W, n - d0);
      V r[W];
      for (int64_t d = 0; d < W; ++d) r[d] = d < dw ? V::load(columns + (d0 + d) * NR + q0) * s : V(T(0));
      transpose(r);
      for (int64_t q = 0; q < std::min(W, nq - q0); ++q) store_upto(r[q], rows + (q0 + q) * ld + d0, dw);
    }
  }
}

/// A bias of -inf hides the key, whatever its score.
template <class T> void add_bias(T& score, T bias) { score = bias == -inf<T>() ? bias : score + bias; }

template <class T> struct Lanes {  // 0, 1, 2, ...
  alignas(64) T at[Vec<T>::size];
  Lanes() {
    for (int64_t i = 0; i < Vec<T>::size; ++i) at[i] = static_cast<T>(i);
  }
  static Vec<T> from(int64_t start) {
    static const Lanes l;
    return Vec<T>::load(l.at) + Vec<T>(static_cast<T>(start));
  }
};

// ---- what is not finite -------------------------------------------------------------------------------------------
// A key that a query may not see has weight 0 there, and 0 times a NaN in the key or its value would be NaN. Rows that
// are not finite therefore lie as zeros in the tiles, and the queries that do see one are computed one by one.

template <class T> bool visible(const AttentionInputs<T>& in, int64_t b, int64_t h, int64_t i, int64_t j) {
  const AttentionDims& d = in.dims;
  if (d.causal && j > i + d.S - d.T) return false;
  if (in.key_mask && !in.key_mask[b * d.S + j]) return false;
  return !in.bias.data || in.bias.at(b, h, i, j) != -inf<T>();
}

template <class T> bool finite(const T* x, int64_t n) {
  Vec<T> s(T(0));
  each<T>(n, [&](int64_t i, int64_t m) { s = fma(load_upto(x + i, m), Vec<T>(T(0)), s); });
  return fold_add(s) == 0;
}

/// A matrix whose rows lie `ld` apart.
template <class T> struct Rows {
  const T* data;
  int64_t ld, width;
  const T* at(int64_t i) const { return data + i * ld; }
  bool finite_at(int64_t i) const { return finite(at(i), width); }
  /// Becomes a copy in `to`, the flagged rows zero.
  void clear(const uint8_t* flagged, int64_t rows, T* to) {
    for (int64_t i = 0; i < rows; ++i) {
      if (flagged[i]) std::fill_n(to + i * width, width, T(0));
      else std::copy_n(at(i), width, to + i * width);
    }
    data = to;
    ld = width;
  }
};

/// Flags of the keys that are not finite or whose values are not; k and v become copies with zeros there. Null: none.
template <class T> const uint8_t* set_aside(const AttentionInputs<T>& in, Rows<T>& k, Rows<T>& v) {
  const int64_t n = in.dims.S;
  if (!in.key_mask && !in.dims.causal && !in.bias.data) return nullptr;
  auto odd = [&](int64_t j) { return !k.finite_at(j) || !v.finite_at(j); };
  int64_t first = 0;
  while (first < n && !odd(first)) ++first;
  if (first == n) return nullptr;
  T* memory = scratch<T>(11, n * (k.width + v.width + 1));
  uint8_t* flags = reinterpret_cast<uint8_t*>(memory + n * (k.width + v.width));
  for (int64_t j = 0; j < n; ++j) flags[j] = j >= first && odd(j);
  k.clear(flags, n, memory);
  v.clear(flags, n, memory + n * k.width);
  return flags;
}

template <class T> bool sees(const AttentionInputs<T>& in, int64_t b, int64_t h, int64_t i, const uint8_t* flagged) {
  for (int64_t j = 0; flagged && j < in.dims.S; ++j)
    if (flagged[j] && visible(in, b, h, i, j)) return true;
  return false;
}

// ---- forward ------------------------------------------------------------------------------------------------------

template <class T>
void forward_single(const AttentionInputs<T>& in, int64_t b, int64_t h, int64_t i, Heads<T> out, T* lse);

/// Tiles [t0, t1) of NR queries, counted over the heads of one key head; keys and values packed at kp and vp, those
/// with a flag as zeros.
template <class T> void forward_tiles(const AttentionInputs<T>& in, int64_t b, int64_t hk, int64_t t0, int64_t t1,
                                      const T* kp, const T* vp, const uint8_t* odd, Heads<T> out, T* lse) {
  using V = Vec<T>;
  constexpr int64_t W = V::size, NV = Tile<T>::NV, NR = Tile<T>::NR;
  const AttentionDims& d = in.dims;
  const int64_t group = d.H / d.Hkv, tiles = (d.T + NR - 1) / NR, shift = d.S - d.T;
  const Strips keys = Strips::of<T>(d.S), depth = Strips::of<T>(d.Dv);
  // About 192 keys at a time: scores and exponentials of a block stay in the first two caches, and short sequences take
  // one block.
  const int64_t blocks = std::max<int64_t>(1, (d.S + 191) / 192), strips_per_block = (keys.count + blocks - 1) / blocks;
  const int64_t most = strips_per_block * keys.height;
  T* qt = scratch<T>(2, d.D * NR + slack<T>());
  T* score = scratch<T>(3, most * NR + slack<T>());
  T* acc = scratch<T>(4, d.Dv * NR + slack<T>());
  const V scale(static_cast<T>(d.scale)), low(-inf<T>());
  for (int64_t tile = t0; tile < t1; ++tile) {
    const int64_t h = hk * group + tile / tiles, i0 = tile % tiles * NR, nq = std::min(NR, d.T - i0);
    pack_transposed(in.q.at(b, h, i0), in.q.strides.t, nq, d.D, qt, NR);
    for (int64_t i = 0; i < d.D; ++i)
      for (int64_t w = 0; w < NR; w += W) (V::load(qt + i * NR + w) * scale).store(qt + i * NR + w);
    const int64_t visible = d.causal ? std::min(d.S, i0 + nq + shift) : d.S;
    V top[NV], sum[NV];
    for (int64_t w = 0; w < NV; ++w) top[w] = low, sum[w] = V(T(0));
    bool started = false;
    for (int64_t s0 = 0; s0 < keys.count && s0 * keys.height < visible; s0 += strips_per_block) {
      const int64_t j0 = s0 * keys.height, j1 = std::min(visible, j0 + most);
      const int64_t s1 = (j1 + keys.height - 1) / keys.height;
      multiply(keys, s0, s1, kp, d.D, 0, d.D, qt, NR, score, NR, nq, false);
      if (in.bias.data) {
        const T* p = in.bias.data + b * in.bias.b + h * in.bias.h + i0 * in.bias.t;
        for (int64_t j = j0; j < j1; ++j)
          for (int64_t i = 0; i < nq; ++i) add_bias(score[(j - j0) * NR + i], p[i * in.bias.t + j * in.bias.s]);
      }
      if (in.key_mask) {
        for (int64_t j = j0; j < j1; ++j)
          if (!in.key_mask[b * d.S + j])
            for (int64_t w = 0; w < NR; w += W) low.store(score + (j - j0) * NR + w);
      }
      if (d.causal) {  // key j is seen by queries from j - shift on
        for (int64_t j = std::max(j0, i0 + shift + 1); j < j1; ++j)
          for (int64_t w = 0; w < NV; ++w) {
            T* p = score + (j - j0) * NR + w * W;
            select(Lanes<T>::from(w * W) < V(static_cast<T>(j - shift - i0)), low, V::load(p)).store(p);
          }
      }
      for (int64_t w = 0; w < NV && w * W < nq; ++w) {
        T* p = score + w * W;
        const int64_t n = j1 - j0;
        V m0 = top[w], m1 = m0;
        int64_t j = 0;
        for (; j + 2 <= n; j += 2) {
          m0 = fast_max(m0, V::load(p + j * NR));
          m1 = fast_max(m1, V::load(p + (j + 1) * NR));
        }
        if (j < n) m0 = fast_max(m0, V::load(p + j * NR));
        const V next = fast_max(m0, m1), base = select(next == low, V(T(0)), next);
        V a(T(0)), c(T(0));
        for (j = 0; j + 2 <= n; j += 2) {
          V e = exp_flush(V::load(p + j * NR) - base), f = exp_flush(V::load(p + (j + 1) * NR) - base);
          e.store(p + j * NR);
          f.store(p + (j + 1) * NR);
          a += e;
          c += f;
        }
        if (j < n) {
          V e = exp_flush(V::load(p + j * NR) - base);
          e.store(p + j * NR);
          a += e;
        }
        const V shrink = exp_flush(top[w] - base);
        sum[w] = fma(sum[w], shrink, a + c);
        if (started)
          for (int64_t i = 0; i < d.Dv; ++i) (V::load(acc + i * NR + w * W) * shrink).store(acc + i * NR + w * W);
        top[w] = next;
      }
      multiply(depth, 0, depth.count, vp, d.S, j0, j1, score, NR, acc, NR, nq, started);
      started = true;
    }
    alignas(64) T factor[NR], logsum[NR];
    for (int64_t w = 0; w < NV; ++w) {
      select(sum[w] == V(T(0)), V(T(0)), V(T(1)) / sum[w]).store(factor + w * W);
      (top[w] + log(sum[w])).store(logsum + w * W);
    }
    T* o = out.at(b, h, i0);
    if (started) {
      store_transposed(acc, d.Dv, nq, factor, o, out.strides.t);
    } else {
      for (int64_t i = 0; i < nq; ++i) std::fill(o + i * out.strides.t, o + i * out.strides.t + d.Dv, T(0));
    }
    std::copy(logsum, logsum + nq, lse + (b * d.H + h) * d.T + i0);
    for (int64_t i = i0; odd && i < i0 + nq; ++i)
      if (sees(in, b, h, i, odd)) forward_single(in, b, h, i, out, lse);
  }
}

/// Very few queries (decoding): one at a time over the rows of k and v that it sees, as they lie.
template <class T>
void forward_single(const AttentionInputs<T>& in, int64_t b, int64_t h, int64_t i, Heads<T> out, T* lse) {
  using V = Vec<T>;
  const AttentionDims& d = in.dims;
  const int64_t hk = h / (d.H / d.Hkv);
  const T* q = in.q.at(b, h, i);
  const T* k = in.k.at(b, hk);
  const T* v = in.v.at(b, hk);
  T* score = scratch<T>(7, d.S + slack<T>());
  int64_t *seen = scratch<int64_t>(10, d.S + 1), n = 0;  // the keys, and how many
  const int64_t last = d.causal ? std::clamp<int64_t>(i + d.S - d.T + 1, 0, d.S) : d.S;
  const bool some = in.key_mask || in.bias.data;
  for (int64_t j = 0; j < last; ++j) {
    if (some && !visible(in, b, h, i, j)) continue;
    V s(T(0));
    each<T>(d.D,
            [&](int64_t c, int64_t m) { s = fma(load_upto(q + c, m), load_upto(k + j * in.k.strides.t + c, m), s); });
    score[n] = fold_add(s) * static_cast<T>(d.scale);
    if (in.bias.data) score[n] += in.bias.at(b, h, i, j);
    seen[n++] = j;
  }
  T* o = out.at(b, h, i);
  T top = n > 0 ? reduce_row<Max>(score, n) : -inf<T>();
  T& l = lse[(b * d.H + h) * d.T + i];
  if (top == -inf<T>()) {
    std::fill(o, o + d.Dv, T(0));
    l = top;
    return;
  }
  T sum = exp_sum<true>(score, score, n, top);
  l = top + std::log(sum);
  const V factor(T(1) / sum);
  each<T>(d.Dv, [&](int64_t c, int64_t m) {
    V a(T(0)), e(T(0));
    int64_t j = 0;
    for (; j + 2 <= n; j += 2) {
      a = fma(V(score[j]), load_upto(v + seen[j] * in.v.strides.t + c, m), a);
      e = fma(V(score[j + 1]), load_upto(v + seen[j + 1] * in.v.strides.t + c, m), e);
    }
    if (j < n) a = fma(V(score[j]), load_upto(v + seen[j] * in.v.strides.t + c, m), a);
    store_upto((a + e) * factor, o + c, m);
  });
}

// ---- backward -----------------------------------------------------------------------------------------------------

template <class T> struct Backward {
  Heads<const T> out, dout;
  const T* lse;
  AttentionGradients<T> to;
  int64_t bias_size;  // elements of the bias
};

/// The queries of one key head that are not finite, have such cotangents or see such a key: zeros in the tiles, where
/// they have no weights, and computed one by one.
template <class T> class OddQueries {
 public:
  OddQueries(const AttentionInputs<T>& in, const Backward<T>& g, int64_t b, int64_t hk, const uint8_t* keys)
      : in_(in), g_(g), b_(b), first_(hk * in.dims.H / in.dims.Hkv) {
    const AttentionDims& d = in.dims;
    const int64_t heads = d.H / d.Hkv;
    if (!in.key_mask && !d.causal && !in.bias.data) return;
    auto odd = [&](int64_t h, int64_t i) {
      bool plain = finite(in.q.at(b, h, i), d.D) && !sees(in, b, h, i, keys);
      for (int64_t t = 0; plain && t < d.targets; ++t) plain = finite(g.dout.at(b, h, i, t), d.Dv);
      return !plain;
    };
    int64_t at = 0;
    while (at < heads * d.T && !odd(first_ + at / d.T, at % d.T)) ++at;
    if (at == heads * d.T) return;
    memory_ = scratch<T>(12, d.T * (d.D + d.targets * d.Dv) + heads * d.T);
    flags_ = reinterpret_cast<uint8_t*>(memory_ + d.T * (d.D + d.targets * d.Dv));
    for (int64_t k = 0; k < heads * d.T; ++k) flags_[k] = k >= at && odd(first_ + k / d.T, k % d.T);
  }
  bool has(int64_t h, int64_t i) const { return flags_ && of(h)[i]; }
  Rows<T> query(int64_t h) const { return plain({in_.q.at(b_, h), in_.q.strides.t, in_.dims.D}, h, 0); }
  Rows<T> cotangent(int64_t h, int64_t t) const {
    const AttentionDims& d = in_.dims;
    return plain({g_.dout.at(b_, h, 0, t), g_.dout.strides.t, d.Dv}, h, d.T * (d.D + t * d.Dv));
  }

 private:
  const uint8_t* of(int64_t h) const { return flags_ + (h - first_) * in_.dims.T; }
  Rows<T> plain(Rows<T> x, int64_t h, int64_t offset) const {
    if (flags_) x.clear(of(h), in_.dims.T, memory_ + offset);
    return x;
  }

  const AttentionInputs<T>& in_;
  const Backward<T>& g_;
  int64_t b_, first_;
  T* memory_ = nullptr;
  uint8_t* flags_ = nullptr;
};

/// Adds what one query gives, by the definition; a cotangent of zeros gives nothing.
template <class T>
void backward_single(const AttentionInputs<T>& in, const Backward<T>& g, int64_t b, int64_t h, int64_t i, int64_t t) {
  const AttentionDims& d = in.dims;
  const int64_t hk = h / (d.H / d.Hkv);
  const T *q = in.q.at(b, h, i), *out = g.out.at(b, h, i), *dout = g.dout.at(b, h, i, t);
  const T lse = g.lse[(b * d.H + h) * d.T + i], scale = static_cast<T>(d.scale);
  if (lse == -inf<T>() || std::all_of(dout, dout + d.Dv, [](T x) { return x == 0; })) return;
  auto dot = [](const T* x, const T* y, int64_t n) {
    T s = 0;
    for (int64_t c = 0; c < n; ++c) s += x[c] * y[c];
    return s;
  };
  auto add = [](T weight, const T* x, int64_t n, T* to) {
    for (int64_t c = 0; c < n; ++c) to[c] += weight * x[c];
  };
  const T delta = dot(dout, out, d.Dv);
  for (int64_t j = 0; j < d.S; ++j) {
    if (!visible(in, b, h, i, j)) continue;
    const T *k = in.k.at(b, hk, j), *v = in.v.at(b, hk, j);
    const T bias = in.bias.data ? in.bias.at(b, h, i, j) : T(0), p = std::exp(dot(q, k, d.D) * scale + bias - lse);
    const T ds = p * (dot(dout, v, d.Dv) - delta);
    if (g.to.bias) g.to.bias[t * g.bias_size + in.bias.offset(b, h, i, j)] += ds;
    if (g.to.v.data) add(p, dout, d.Dv, g.to.v.at(b, hk, j, t));
    if (g.to.k.data) add(ds * scale, q, d.D, g.to.k.at(b, hk, j, t));
    if (g.to.q.data) add(ds * scale, k, d.D, g.to.q.at(b, h, i, t));
  }
}

template <class T> void backward_head(const AttentionInputs<T>& in, const Backward<T>& g, int64_t b, int64_t hk) {
  using V = Vec<T>;
  constexpr int64_t W = V::size, NV = Tile<T>::NV, NR = Tile<T>::NR;
  const AttentionDims& d = in.dims;
  const int64_t group = d.H / d.Hkv, shift = d.S - d.T, key_tiles = (d.S + NR - 1) / NR;
  const bool scores_matter = g.to.q.data || g.to.k.data || g.to.bias;
  const Strips queries = Strips::of<T>(d.T), depth = Strips::of<T>(d.D), depth_v = Strips::of<T>(d.Dv);
  const int64_t block = std::max<int64_t>(1, 160 / queries.height);  // strips of queries at a time
  const int64_t block_rows = block * queries.height, dslivers = (d.D + NR - 1) / NR;

  // Packed once per query head: q and dout by strips of queries (depth d), and by strips of depth (depth T).
  const int64_t rows_d = queries.packed<T>(d.D), rows_v = queries.packed<T>(d.Dv), cols_d = depth.packed<T>(d.T),
                cols_v = depth_v.packed<T>(d.T);
  const int64_t own = rows_v + cols_v + (d.T + 15) / 16 * 16;  // of each target
  T* memory = scratch<T>(5, rows_d + cols_d + d.targets * own + d.T);
  T *q_rows = memory, *q_cols = q_rows + rows_d, *targets = q_cols + cols_d, *shift_by = targets + d.targets * own;
  T* blocks = scratch<T>(6, 2 * block_rows * NR + 2 * slack<T>() + Tile<T>::AS * NR + d.D * NR + d.Dv * NR +
                                dslivers * NR * NR + 6 * slack<T>());
  T *p = blocks, *ds = p + block_rows * NR + slack<T>(), *strip = ds + block_rows * NR + slack<T>(),
    *kt = strip + Tile<T>::AS * NR + slack<T>(), *vt = kt + d.D * NR + slack<T>(), *kr = vt + d.Dv * NR + slack<T>();
  const int64_t tile_sums = (d.D + d.Dv) * NR;  // dk^T and dv^T of each target and tile of keys
  T* sums = scratch<T>(7, d.targets * key_tiles * tile_sums + slack<T>());
  std::fill(sums, sums + d.targets * key_tiles * tile_sums, T(0));
  const V scale(static_cast<T>(d.scale)), zero(T(0));
  Rows<T> k{in.k.at(b, hk), in.k.strides.t, d.D}, v{in.v.at(b, hk), in.v.strides.t, d.Dv};
  const uint8_t* odd_keys = set_aside(in, k, v);
  OddQueries<T> odd(in, g, b, hk, odd_keys);

  for (int64_t h = hk * group; h < (hk + 1) * group; ++h) {
    const Rows<T> q = odd.query(h);
    const T* out = g.out.at(b, h);
    pack_rows(queries, q.data, q.ld, d.D, q_rows);
    if (g.to.k.data) pack_columns(depth, q.data, q.ld, d.T, q_cols);
    for (int64_t i = 0; i < d.T; ++i) {
      const T l = g.lse[(b * d.H + h) * d.T + i];
      shift_by[i] = l == -inf<T>() || odd.has(h, i) ? inf<T>() : l;  // a query that sees nothing: exp(s - inf) = 0
    }
    for (int64_t t = 0; t < d.targets; ++t) {
      const Rows<T> dout = odd.cotangent(h, t);
      T* dq = g.to.q.data ? g.to.q.at(b, h, 0, t) : nullptr;
      T *do_rows = targets + t * own, *do_cols = do_rows + rows_v, *delta = do_cols + cols_v;
      if (scores_matter) pack_rows(queries, dout.data, dout.ld, d.Dv, do_rows);
      if (g.to.v.data) pack_columns(depth_v, dout.data, dout.ld, d.T, do_cols);
      for (int64_t i = 0; i < d.T; ++i) {
        V s(T(0));
        each<T>(d.Dv, [&](int64_t c, int64_t m) {
          s = fma(load_upto(dout.at(i) + c, m), load_upto(out + i * g.out.strides.t + c, m), s);
        });
        delta[i] = fold_add(s);
        if (dq) std::fill(dq + i * g.to.q.strides.t, dq + i * g.to.q.strides.t + d.D, T(0));
      }
    }
    for (int64_t tile = 0; tile < key_tiles; ++tile) {
      const int64_t j0 = tile * NR, n = std::min(NR, d.S - j0);
      pack_transposed(k.at(j0), k.ld, n, d.D, kt, NR);
      for (int64_t i = 0; i < d.D; ++i)
        for (int64_t w = 0; w < NR; w += W) (V::load(kt + i * NR + w) * scale).store(kt + i * NR + w);
      if (scores_matter) pack_transposed(v.at(j0), v.ld, n, d.Dv, vt, NR);
      if (g.to.q.data)
        for (int64_t s = 0; s < dslivers; ++s)
          pack_straight(k.at(j0) + s * NR, k.ld, std::min(NR, d.D - s * NR), n, kr + s * NR * NR, NR);
      V keep[NV];  // 1 for keys that may be seen
      {
        alignas(64) T t[NR];
        for (int64_t j = 0; j < NR; ++j) t[j] = j < n && (!in.key_mask || in.key_mask[b * d.S + j0 + j]) ? T(1) : T(0);
        for (int64_t w = 0; w < NV; ++w) keep[w] = V::load(t + w * W);
      }
      const int64_t first = d.causal ? std::max<int64_t>(0, j0 - shift) / queries.height : 0;
      for (int64_t s0 = first; s0 < queries.count; s0 += block) {
        const int64_t s1 = std::min(queries.count, s0 + block), i0 = s0 * queries.height,
                      i1 = std::min(d.T, s1 * queries.height);
        multiply(queries, s0, s1, q_rows, d.D, 0, d.D, kt, NR, p, NR, n, false);
        if (in.bias.data) {
          const T* e = in.bias.data + b * in.bias.b + h * in.bias.h + j0 * in.bias.s;
          for (int64_t i = i0; i < i1; ++i)
            for (int64_t j = 0; j < n; ++j) add_bias(p[(i - i0) * NR + j], e[i * in.bias.t + j * in.bias.s]);
        }
        for (int64_t t = 0; t < d.targets; ++t) {
          T *do_rows = targets + t * own, *do_cols = do_rows + rows_v, *delta = do_cols + cols_v;
          T *dkt = sums + (t * key_tiles + tile) * tile_sums, *dvt = dkt + d.D * NR;
          if (scores_matter) multiply(queries, s0, s1, do_rows, d.Dv, 0, d.Dv, vt, NR, ds, NR, n, false);
          for (int64_t i = i0; i < i1; ++i) {
            const V base(shift_by[i]), del(delta[i]);
            for (int64_t w = 0; w < NV && w * W < n; ++w) {
              T *pp = p + (i - i0) * NR + w * W, *pd = ds + (i - i0) * NR + w * W;
              V e = V::load(pp);
              if (t == 0) {  // from scores to weights, for every target
                Mask<T> seen = keep[w] > zero;
                if (d.causal) seen = seen & (Lanes<T>::from(j0 + w * W) <= V(static_cast<T>(i + shift)));
                e = select(seen, exp_flush(e - base), zero);
                e.store(pp);
              }
              if (scores_matter) select(e == zero, zero, e * (V::load(pd) - del)).store(pd);
            }
          }
          if (g.to.bias) {
            T* e = g.to.bias + t * g.bias_size + b * in.bias.b + h * in.bias.h + j0 * in.bias.s;
            for (int64_t i = i0; i < i1; ++i)
              for (int64_t j = 0; j < n; ++j) e[i * in.bias.t + j * in.bias.s] += ds[(i - i0) * NR + j];
          }
          if (g.to.v.data) multiply(depth_v, 0, depth_v.count, do_cols, d.T, i0, i1, p, NR, dvt, NR, n, true);
          if (!g.to.q.data && !g.to.k.data) continue;
          for (int64_t e = 0; e < (i1 - i0) * NR; e += W) (V::load(ds + e) * scale).store(ds + e);
          if (g.to.k.data) multiply(depth, 0, depth.count, q_cols, d.T, i0, i1, ds, NR, dkt, NR, n, true);
          if (!g.to.q.data) continue;
          T* dq = g.to.q.at(b, h, 0, t);
          for (int64_t s = s0; s < s1; ++s) {
            const int64_t i = s * queries.height, rows = queries.tall(s);
            pack_transposed(ds + (i - i0) * NR, NR, rows, n, strip, Tile<T>::AS);
            for (int64_t c = 0; c < dslivers; ++c) {
              const int64_t wide = std::min(NR, d.D - c * NR);
              kernel_for<T>(rows, wide)(n, strip, kr + c * NR * NR, NR, dq + i * g.to.q.strides.t + c * NR,
                                        g.to.q.strides.t, wide, T(1), T(1), nullptr);
            }
          }
        }
      }
    }
  }
  for (int64_t t = 0; t < d.targets; ++t)
    for (int64_t tile = 0; tile < key_tiles; ++tile) {
      const int64_t j0 = tile * NR, n = std::min(NR, d.S - j0);
      const T *dkt = sums + (t * key_tiles + tile) * tile_sums, *dvt = dkt + d.D * NR;
      if (g.to.k.data) store_transposed<T>(dkt, d.D, n, nullptr, g.to.k.at(b, hk, j0, t), g.to.k.strides.t);
      if (g.to.v.data) store_transposed<T>(dvt, d.Dv, n, nullptr, g.to.v.at(b, hk, j0, t), g.to.v.strides.t);
    }
  for (int64_t h = hk * group; h < (hk + 1) * group; ++h)
    for (int64_t i = 0; i < d.T; ++i)
      for (int64_t t = 0; odd.has(h, i) && t < d.targets; ++t) backward_single(in, g, b, h, i, t);
}

}  // namespace

template <class T> void attention(const AttentionInputs<T>& in, Heads<T> out, T* lse) {
  constexpr int64_t NR = Tile<T>::NR;
  const AttentionDims& d = in.dims;
  const double flops = 2.0 * double(d.B) * double(d.H) * double(d.T) * double(d.S) * double(d.D + d.Dv);
  const bool serial = flops < 1e6;
  if (d.T <= 3 || d.S <= 0) {
    auto rows = [&](int64_t r0, int64_t r1) {
      for (int64_t r = r0; r < r1; ++r) forward_single(in, r / (d.H * d.T), r / d.T % d.H, r % d.T, out, lse);
    };
    const int64_t n = d.B * d.H * d.T;
    parallel_for(n, serial ? n : 1, rows);
    return;
  }
  // One task packs the keys and values of its key head once; when there are too few key heads, its query tiles are
  // shared out as well.
  const int64_t heads = d.B * d.Hkv, tiles = d.H / std::max<int64_t>(1, d.Hkv) * ((d.T + NR - 1) / NR);
  int64_t parts = 1;
  if (!serial) parts = std::clamp<int64_t>(4 * num_threads() / std::max<int64_t>(1, heads), 1, tiles);
  auto task = [&](int64_t t) {
    const int64_t head = t / parts, part = t % parts, b = head / d.Hkv, hk = head % d.Hkv;
    const Strips keys = Strips::of<T>(d.S), depth = Strips::of<T>(d.Dv);
    T* kp = scratch<T>(5, keys.packed<T>(d.D));
    T* vp = scratch<T>(6, depth.packed<T>(d.S));
    Rows<T> k{in.k.at(b, hk), in.k.strides.t, d.D}, v{in.v.at(b, hk), in.v.strides.t, d.Dv};
    const uint8_t* odd = set_aside(in, k, v);
    pack_rows(keys, k.data, k.ld, d.D, kp);
    pack_columns(depth, v.data, v.ld, d.S, vp);
    forward_tiles(in, b, hk, tiles * part / parts, tiles * (part + 1) / parts, kp, vp, odd, out, lse);
  };
  if (serial) {
    for (int64_t t = 0; t < heads; ++t) task(t);
  } else {
    parallel_chunks(heads * parts, 1, [&](int64_t t, int64_t) { task(t); });
  }
}

template <class T> void attention_backward(const AttentionInputs<T>& in, Heads<const T> out, const T* lse,
                                           Heads<const T> dout, const AttentionGradients<T>& to) {
  const AttentionDims& d = in.dims;
  const AttentionBias<T>& bias = in.bias;
  const int64_t nb = bias.b ? d.B : 1, nh = bias.h ? d.H : 1, nt = bias.t ? d.T : 1, ns = bias.s ? d.S : 1;
  const Backward<T> g{out, dout, lse, to, nb * nh * nt * ns};
  const bool shared_bias = to.bias && (nb < d.B || nh < d.H) && d.B * d.H > 1;  // tasks would add to the same elements
  if (to.bias)
    for (int64_t l = 0; l < d.targets; ++l)
      for (int64_t b = 0; b < nb; ++b)
        for (int64_t h = 0; h < nh; ++h)
          for (int64_t t = 0; t < nt; ++t)
            for (int64_t s = 0; s < ns; ++s)
              to.bias[l * g.bias_size + b * bias.b + h * bias.h + t * bias.t + s * bias.s] = T(0);
  const double flops =
      5.0 * double(d.targets) * double(d.B) * double(d.H) * double(d.T) * double(d.S) * double(d.D + d.Dv);
  const int64_t tasks = d.B * d.Hkv;
  if (flops < 1e6 || shared_bias) {
    for (int64_t t = 0; t < tasks; ++t) backward_head(in, g, t / d.Hkv, t % d.Hkv);
  } else {
    parallel_chunks(tasks, 1, [&](int64_t t, int64_t) { backward_head(in, g, t / d.Hkv, t % d.Hkv); });
  }
}

#define WHENCE_INSTANTIATE(T)                                                                              \
  template void attention<T>(const AttentionInputs<T>&, Heads<T>, T*);                                     \
  template void attention_backward<T>(const AttentionInputs<T>&, Heads<const T>, const T*, Heads<const T>, \
                                      const AttentionGradients<T>&);
WHENCE_INSTANTIATE(float)
WHENCE_INSTANTIATE(double)
#undef WHENCE_INSTANTIATE

}  // namespace whence::cpu
