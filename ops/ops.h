// The operations. Each records nodes and returns Vars; shapes and dtypes are checked at the caller's line.
// Formulas, vjps and relevance rules: docs/ops.md (generated from the registry).
#pragma once
#include <optional>
#include <vector>

#include "autograd/graph.h"

namespace whence {

// ---- elementwise, broadcasting --------------------------------------------------------------------------------
Var add(Arg a, Arg b);
Var sub(Arg a, Arg b);
Var mul(Arg a, Arg b);
Var div(Arg a, Arg b);
Var maximum(Arg a, Arg b);
Var minimum(Arg a, Arg b);
Var pow(Arg a, Arg b);
Var operator+(Arg a, Arg b);
Var operator-(Arg a, Arg b);
Var operator*(Arg a, Arg b);
Var operator/(Arg a, Arg b);
Var operator-(Arg a);

Var neg(Arg x);
Var abs(Arg x);
Var sign(Arg x);
Var exp(Arg x);
Var expm1(Arg x);
Var log(Arg x);
Var log1p(Arg x);
Var sqrt(Arg x);
Var rsqrt(Arg x);
Var reciprocal(Arg x);
Var square(Arg x);
Var sin(Arg x);
Var cos(Arg x);
Var tanh(Arg x);
Var sigmoid(Arg x);
Var erf(Arg x);
Var relu(Arg x);
Var leaky_relu(Arg x, double slope = 0.01);
Var gelu(Arg x);       ///< x Phi(x), exact (erf)
Var gelu_tanh(Arg x);  ///< the tanh approximation (GPT-2)
Var silu(Arg x);
Var softplus(Arg x);  ///< log(1 + e^x)
Var log_sigmoid(Arg x);
Var clamp(Arg x, double low, double high);
Var floor(Arg x);
Var round(Arg x);  ///< half to even
Var cast(Arg x, DType dtype);
Var widened(Arg x);  ///< halves as f32, else x: what statistics are taken of

/// Comparisons give boolean.
Var less(Arg a, Arg b);
Var less_equal(Arg a, Arg b);
Var greater(Arg a, Arg b);
Var greater_equal(Arg a, Arg b);
Var equal(Arg a, Arg b);
Var not_equal(Arg a, Arg b);
Var logical_and(Arg a, Arg b);
Var logical_or(Arg a, Arg b);
Var logical_not(Arg a);
/// condition ? a : b, broadcasting all three.
Var where(Arg condition, Arg a, Arg b);

// ---- reductions: axes {} means all; sums, means and logsumexp of halves are f32 ---------------------------------
Var sum(Arg x, Ints axes = {}, bool keepdim = false);
Var mean(Arg x, Ints axes = {}, bool keepdim = false);
Var max(Arg x, Ints axes = {}, bool keepdim = false);  ///< the first maximum takes gradient and relevance
Var min(Arg x, Ints axes = {}, bool keepdim = false);
Var argmax(Arg x, int64_t axis = -1, bool keepdim = false);  ///< i64, first of equals
Var argmin(Arg x, int64_t axis = -1, bool keepdim = false);
Var logsumexp(Arg x, Ints axes = {}, bool keepdim = false);
Var any(Arg x, Ints axes = {}, bool keepdim = false);  ///< boolean
Var all(Arg x, Ints axes = {}, bool keepdim = false);
Var variance(Arg x, Ints axes = {}, bool keepdim = false, int64_t correction = 0);

// ---- scans ------------------------------------------------------------------------------------------------------
Var cumsum(Arg x, int64_t axis, bool reverse = false);
/// h_t = a_t h_{t-1} + b_t along axis, h_{-1} = 0; reverse runs from the end. a broadcasts to b.
Var linear_scan(Arg a, Arg b, int64_t axis, bool reverse = false);

// ---- layout -----------------------------------------------------------------------------------------------------
Var reshape(Arg x, Shape shape);  ///< one extent may be -1
Var permute(Arg x, Ints axes);
Var transpose(Arg x, int64_t a = -2, int64_t b = -1);
Var squeeze(Arg x, int64_t axis);
Var unsqueeze(Arg x, int64_t axis);
Var broadcast_to(Arg x, Shape shape);
Var sum_to(Arg x, Shape shape);  ///< the adjoint of broadcast_to
Var concat(const std::vector<Var>& xs, int64_t axis, std::source_location where = std::source_location::current());
Var stack(const std::vector<Var>& xs, int64_t axis = 0, std::source_location where = std::source_location::current());
std::vector<Var> split(Arg x, Ints sizes, int64_t axis = -1);
std::vector<Var> chunk(Arg x, int64_t parts, int64_t axis = -1);
/// x[begin:end:step] along axis; negative begin and end count from the end.
Var slice(Arg x, int64_t axis, int64_t begin, int64_t end = INT64_MAX, int64_t step = 1);
Var select(Arg x, int64_t axis, int64_t index);
enum class PadMode { constant, reflect, replicate, circular };
/// pads: {before, after} for each axis, axis 0 first. Negative constant pads crop.
Var pad(Arg x, Ints pads, PadMode mode = PadMode::constant, double value = 0);
Var flip(Arg x, Ints axes);
Var roll(Arg x, Ints shifts, Ints axes);
Var repeat(Arg x, Ints repeats);                              ///< tiles, NumPy's tile
Var repeat_interleave(Arg x, int64_t repeats, int64_t axis);  ///< aabbcc

// ---- indexing ---------------------------------------------------------------------------------------------------
/// Rows of x along axis: out[.., index.., ..] (NumPy's take). index: integers of any rank.
Var gather(Arg x, Arg index, int64_t axis = 0);
/// out[i][j] = x[index[i][j]][j] for axis 0 (PyTorch's gather). index has x's rank.
Var take_along_axis(Arg x, Arg index, int64_t axis);
/// base with src added at index along axis (index has src's shape); deterministic.
Var scatter_add(Arg base, Arg index, Arg src, int64_t axis);
/// weight[ids]: ids [...], weight [V, C] -> [..., C]. A negative padding_idx is none; its row gets no gradient.
Var embedding(Arg ids, Arg weight, int64_t padding_idx = -1);
Var one_hot(Arg ids, int64_t classes, DType dtype = f32);
/// One element per row: out[b] = x[b, index[b]], x [B.., C], index [B..].
Var pick(Arg x, Arg index);
struct TopK {
  Var values, indices;
};
TopK topk(Arg x, int64_t k, int64_t axis = -1);                  ///< descending, ties: lowest index first
Var argsort(Arg x, int64_t axis = -1, bool descending = false);  ///< stable, i64

// ---- linear algebra -----------------------------------------------------------------------------------------------
/// [.., m, k] . [.., k, n], leading axes broadcast; transposed views cost no copy. Sums are f32 for halves; `dtype` f32
/// gives them unrounded (default: the operands' dtype).
Var matmul(Arg a, Arg b, std::optional<DType> dtype = {});
/// x [.., in], weight [out, in], bias [out] or absent -> x weight^T + bias; dtype as for matmul.
Var linear(Arg x, Arg weight, std::optional<Arg> bias = {}, std::optional<DType> dtype = {});
/// NumPy subscripts with an explicit or implicit output, lowered to permute, reshape, matmul and sum.
Var einsum(const std::string& equation, const std::vector<Var>& operands,
           std::source_location where = std::source_location::current());
/// Causal depthwise convolution: x [B, T, C], weight [C, K], bias [C]; state [B, K-1, C] precedes x (zeros when
/// absent).
Var causal_conv1d(Arg x, Arg weight, std::optional<Arg> bias = {}, std::optional<Arg> state = {});

// ---- normalisation, softmax, attention, losses: computed in f32 for halves; losses of halves are f32 --------------
Var softmax(Arg x, int64_t axis = -1);
Var log_softmax(Arg x, int64_t axis = -1);
/// Over the last axis; weight and bias [C] may be absent, and f32 beside an x of halves. The result has x's dtype.
Var layer_norm(Arg x, std::optional<Arg> weight = {}, std::optional<Arg> bias = {}, double eps = 1e-5);
Var rms_norm(Arg x, std::optional<Arg> weight = {}, double eps = 1e-6);

struct AttentionOptions {
  bool causal = false;           ///< query i sees keys up to i + S - T
  double scale = 0;              ///< 0: 1 / sqrt(D)
  std::optional<Var> mask = {};  ///< [B, S] u8 or boolean, 1 = may be seen
  std::optional<Var> bias = {};  ///< added to the scores, broadcastable to [B, H, T, S]
};
/// q [B, H, T, D], k and v [B, Hkv, S, D] with Hkv dividing H (grouped heads) -> [B, H, T, D]. Never T x S in memory.
Var attention(Arg q, Arg k, Arg v, AttentionOptions options = {});

enum class Reduction { mean, sum, none };
struct CrossEntropyOptions {
  int64_t ignore_index = -100;  ///< rows with this label count for nothing
  double label_smoothing = 0;
  Reduction reduction = Reduction::mean;
};
/// logits [.., V]; target: integer [..], or floating [.., V] (soft targets).
Var cross_entropy(Arg logits, Arg target, CrossEntropyOptions options = {});
Var bce_with_logits(Arg logits, Arg target, Reduction reduction = Reduction::mean);
Var mse_loss(Arg prediction, Arg target, Reduction reduction = Reduction::mean);

// ---- states
// ----------------------------------------------------------------------------------------------------------
/// All values row by row, one behind the other: [n0 + n1 + ..], of one dtype. A plan computes them inside the result,
/// so that gradients become one arena without copies. \throws DTypeError
Var pack(const std::vector<Var>& values, std::source_location where = std::source_location::current());
/// sum of x^2, f64 []; x floating point of any shape.
Var sum_squares(Arg x);
/// x with x[.., at .. at + m, ..] = update along axis, m being update's extent there; `at` is i64 []. Assigned to the
/// state that x is, it writes in place: a key and value cache. A position out of range is a ValueError of the run.
Var update_slice(Arg x, Arg update, Arg at, int64_t axis);
/// x[.., at .. at + length, ..] along axis; `at` is i64 [].
Var slice_at(Arg x, Arg at, int64_t length, int64_t axis);

// ---- random: counter based (Philox); `key` names the stream, the run's seed advances it ---------------------------
Var uniform(Graph& g, Shape shape, int64_t key, double low = 0, double high = 1, DType dtype = f32,
            std::source_location where = std::source_location::current());
Var normal(Graph& g, Shape shape, int64_t key, double mean = 0, double stddev = 1, DType dtype = f32,
           std::source_location where = std::source_location::current());
/// 1 with probability p.
Var bernoulli(Graph& g, Shape shape, int64_t key, double p, DType dtype = f32,
              std::source_location where = std::source_location::current());
Var permutation(Graph& g, int64_t n, int64_t key,
                std::source_location where = std::source_location::current());  ///< i64
/// Zeroes with probability p and scales the rest by 1 / (1 - p). Identity when p == 0.
Var dropout(Arg x, double p, int64_t key);
Var arange(Graph& g, int64_t n, DType dtype = i64, std::source_location where = std::source_location::current());

// ---- markers ------------------------------------------------------------------------------------------------------
Var stop_gradient(Arg x);   ///< identity; gradients end here, relevance passes
Var stop_relevance(Arg x);  ///< identity; relevance ends here, gradients pass

}  // namespace whence
