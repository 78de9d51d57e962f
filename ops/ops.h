// The operations. Each records nodes and returns Vars. What the registry knows of them (vjps, relevance rules and their
// variants, dtypes that have a kernel): docs/ops.md.
//
// What the comments of a function leave unsaid:
//   shapes   [.., C] is any leading axes, then C; [] a scalar. A function of x alone keeps x's shape. "Broadcasting" is
//            NumPy's; shapes that do not broadcast are a ShapeError.
//   axes     count from the end when negative; one outside x is a ShapeError.
//   dtypes   "float" is f32, f64, bf16 or f16 (the last two are stored: an op computes in f32 and rounds once),
//            "number" a float, i32 or i64, "integer" i32, i64 or u8, "any" each of these and bool. Values that meet
//            have one dtype, and so has the result. All else is a DTypeError: nothing is promoted.
//   numbers  of C++ become constants of the first Var's dtype; one that an integer dtype cannot hold exactly is a
//            DTypeError. One operand is a Var.
//   errors   ShapeError, DTypeError and ValueError are thrown by the call, with its line. Positions and labels are
//   data:
//            one out of range is a ValueError at the run.
//   limits   docs/numerics.md: NaN, infinities, halves.
//   sweeps   R is the relevance of the result; the rules are in docs/relevance.md. Operands that select (conditions,
//            masks, positions) take neither gradient nor relevance. "Ends here": nothing passes.
#pragma once
#include <optional>
#include <vector>

#include "whence/autograd/graph.h"

namespace whence {

// ---- elementwise, broadcasting --------------------------------------------------------------------------------
/// a + b; number, integers wrap. Relevance: epsilon rule, a R / stab(a + b) to a, and so for b; variants abs, pass.
Var add(Arg a, Arg b);
/// a - b; number, integers wrap. Relevance as for add, with -b.
Var sub(Arg a, Arg b);
/// a b; number, integers wrap. Relevance: half to each factor if both carry, else all; variants abs, first, second.
Var mul(Arg a, Arg b);
/// a / b; float. Relevance: all to a, unless only b carries; variant abs.
Var div(Arg a, Arg b);
/// The larger of a and b, NaN if one is; number. The larger, a if they are equal, takes gradient and relevance.
Var maximum(Arg a, Arg b);
/// The smaller of a and b, NaN if one is; number. The smaller, a if they are equal, takes gradient and relevance.
Var minimum(Arg a, Arg b);
/// a^b; float; the gradient of b needs a >= 0. Relevance: all to a, unless only b carries.
Var pow(Arg a, Arg b);
Var operator+(Arg a, Arg b);  ///< add(a, b)
Var operator-(Arg a, Arg b);  ///< sub(a, b)
Var operator*(Arg a, Arg b);  ///< mul(a, b)
Var operator/(Arg a, Arg b);  ///< div(a, b)
Var operator-(Arg a);         ///< neg(a)
inline Var& operator+=(Var& a, Arg b) { return a = a + b; }  ///< a = add(a, b): a names another value then
inline Var& operator-=(Var& a, Arg b) { return a = a - b; }  ///< likewise
inline Var& operator*=(Var& a, Arg b) { return a = a * b; }  ///< likewise
inline Var& operator/=(Var& a, Arg b) { return a = a / b; }  ///< likewise

// One operand. Relevance passes as it is, R, unless it ends here.
Var neg(Arg x);         ///< -x; number
Var abs(Arg x);         ///< |x|; number; gradient 0 at 0
Var sign(Arg x);        ///< -1, 0 or 1, 0 for NaN; float; ends here
Var exp(Arg x);         ///< e^x; float
Var expm1(Arg x);       ///< e^x - 1, accurate near 0; float
Var log(Arg x);         ///< natural logarithm; float
Var log1p(Arg x);       ///< log(1 + x), accurate near 0; float
Var sqrt(Arg x);        ///< square root; float
Var rsqrt(Arg x);       ///< 1 / sqrt(x); float
Var reciprocal(Arg x);  ///< 1 / x; float
Var square(Arg x);      ///< x^2; number
Var sin(Arg x);         ///< sine; float
Var cos(Arg x);         ///< cosine; float
Var tanh(Arg x);        ///< hyperbolic tangent; float
Var sigmoid(Arg x);     ///< 1 / (1 + e^-x); float
Var erf(Arg x);         ///< error function; float
Var relu(Arg x);        ///< max(x, 0); float; gradient 0 at 0
/// x for x > 0, else slope x; float; gradient slope at 0.
Var leaky_relu(Arg x, double slope = 0.01);
Var gelu(Arg x);         ///< x Phi(x), exact (erf); float (arXiv 1606.08415)
Var gelu_tanh(Arg x);    ///< x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), as in GPT-2; float (arXiv 1606.08415)
Var silu(Arg x);         ///< x sigmoid(x); float (arXiv 1702.03118)
Var softplus(Arg x);     ///< log(1 + e^x), without overflow; float
Var log_sigmoid(Arg x);  ///< log(sigmoid(x)), without overflow; float
/// x held to [low, high]; float; gradient 0 outside, 1 at the bounds. ValueError: not low <= high.
Var clamp(Arg x, double low, double high);
Var floor(Arg x);  ///< largest integer not above x; float; ends here
Var round(Arg x);  ///< nearest integer, halves to even; float; ends here
/// x as dtype, any to any; x itself when it has that dtype. Floats round to nearest even, to integers towards zero
/// (saturating, NaN: 0); bool is x != 0. Gradient and R are cast back.
Var cast(Arg x, DType dtype);
Var widened(Arg x);  ///< halves as f32, else x: what statistics are taken of

// Predicates: the result is bool, and sweeps end here.
Var less(Arg a, Arg b);           ///< a < b, broadcasting; any
Var less_equal(Arg a, Arg b);     ///< a <= b, broadcasting; any
Var greater(Arg a, Arg b);        ///< a > b, broadcasting; any
Var greater_equal(Arg a, Arg b);  ///< a >= b, broadcasting; any
Var equal(Arg a, Arg b);          ///< a == b, broadcasting; any
Var not_equal(Arg a, Arg b);      ///< a != b, broadcasting; any
Var operator<(Arg a, Arg b);      ///< less(a, b)
Var operator<=(Arg a, Arg b);     ///< less_equal(a, b)
Var operator>(Arg a, Arg b);      ///< greater(a, b)
Var operator>=(Arg a, Arg b);     ///< greater_equal(a, b)
Var operator==(Arg a, Arg b);     ///< equal(a, b), by element; the same handle: Var::same
Var operator!=(Arg a, Arg b);     ///< not_equal(a, b)
Var logical_and(Arg a, Arg b);  ///< a and b, broadcasting; bool
Var logical_or(Arg a, Arg b);   ///< a or b, broadcasting; bool
Var logical_not(Arg a);         ///< not a; bool
/// condition ? a : b, broadcasting all three. condition: bool or u8; a and b: any, a number takes the other one's dtype
/// (two numbers: f32). The selected operand takes gradient and relevance.
Var where(Arg condition, Arg a, Arg b);

// ---- reductions: axes {} means all; sums, means and logsumexp of halves are f32 ---------------------------------
// Reduced axes go, or stay with extent 1 (keepdim). ValueError: an axis is named twice.
/// Axes {0, 2}, one axis 1, or {}: all.
struct Axes : Ints {
  Axes() = default;
  template <std::integral T> Axes(T axis) : Ints{int64_t(axis)} {}
  Axes(std::initializer_list<int64_t> axes) : Ints(axes) {}
  Axes(Ints axes) : Ints(std::move(axes)) {}
};
/// Sum of x, 0 over nothing; number. Relevance: epsilon rule, x R / stab(sum); variant abs.
Var sum(Arg x, Axes axes = {}, bool keepdim = false);
/// sum(x) times 1 / count, 0 over nothing; float. Relevance as for sum.
Var mean(Arg x, Axes axes = {}, bool keepdim = false);
/// Largest of x, NaN if one is; number; ShapeError over nothing. The first takes gradient and relevance.
Var max(Arg x, Axes axes = {}, bool keepdim = false);
/// Smallest of x, NaN if one is; number; ShapeError over nothing. The first takes gradient and relevance.
Var min(Arg x, Axes axes = {}, bool keepdim = false);
/// Position (i64) of the first largest of x along one axis; number; ShapeError over nothing. Ends here.
Var argmax(Arg x, int64_t axis = -1, bool keepdim = false);
/// Position (i64) of the first smallest of x along one axis; number; ShapeError over nothing. Ends here.
Var argmin(Arg x, int64_t axis = -1, bool keepdim = false);
/// log(sum(e^x)), shifted by the maximum, -inf over nothing; float. Relevance: R e^x / sum(e^x), as the gradient.
Var logsumexp(Arg x, Axes axes = {}, bool keepdim = false);
/// Is one of x true? bool or u8 -> bool; false over nothing. Ends here.
Var any(Arg x, Axes axes = {}, bool keepdim = false);
/// Are all of x true? bool or u8 -> bool; true over nothing. Ends here.
Var all(Arg x, Axes axes = {}, bool keepdim = false);
/// sum((x - mean)^2) / max(count - correction, 0); float. correction 0: of these values, 1: the unbiased estimate.
/// Relevance through that definition.
Var variance(Arg x, Axes axes = {}, bool keepdim = false, int64_t correction = 0);

// ---- scans ------------------------------------------------------------------------------------------------------
/// y_t = x_0 + .. + x_t along axis; reverse: from t to the end; number. Relevance: epsilon rule; variant abs.
Var cumsum(Arg x, int64_t axis, bool reverse = false);
/// h_t = a_t h_{t-1} + b_t along an axis of b, h_{-1} = 0; reverse: from the end. b [..] float, a broadcasts to b
/// (ShapeError). Relevance: epsilon rule in b; a is a gate and takes none. (arXiv 1709.04057)
Var linear_scan(Arg a, Arg b, int64_t axis, bool reverse = false);

// ---- layout -----------------------------------------------------------------------------------------------------
// Of any dtype. Gradient and relevance go back to where an element came from; copies of one add up.
/// The same elements in row-major order; one extent may be -1. ShapeError: counts differ, two extents are open, or none
/// fits, or one is negative.
Var reshape(Arg x, Shape shape);
/// Axis i of the result is x's axes[i]. ShapeError: not one entry per axis; ValueError: an axis is named twice.
Var permute(Arg x, Ints axes);
/// x with the axes a and b exchanged.
Var transpose(Arg x, int64_t a = -2, int64_t b = -1);
/// x without an axis of extent 1. ShapeError: its extent is another.
Var squeeze(Arg x, int64_t axis);
/// x with a new axis of extent 1, which is `axis` of the result. ShapeError: more than 8 axes.
Var unsqueeze(Arg x, int64_t axis);
/// x repeated along axes of extent 1 and new leading ones. ShapeError: x does not broadcast to shape, or an extent is
/// negative.
Var broadcast_to(Arg x, Shape shape);
/// The adjoint of broadcast_to: x summed to shape, which must broadcast to x's (ShapeError); number. Relevance: as sum.
Var sum_to(Arg x, Shape shape);
/// xs one after the other along axis; one rank and dtype, equal extents elsewhere (ShapeError). ValueError: no xs.
Var concat(const std::vector<Var>& xs, int64_t axis, std::source_location where = std::source_location::current());
/// xs of one shape (ShapeError) and dtype along a new axis, which is `axis` of the result. ValueError: no xs.
Var stack(const std::vector<Var>& xs, int64_t axis = 0, std::source_location where = std::source_location::current());
/// x cut along axis into extents sizes[0], sizes[1], .. ShapeError: they do not add up to x's.
std::vector<Var> split(Arg x, Ints sizes, int64_t axis = -1);
/// x cut along axis into equal parts. ShapeError: its extent is no multiple of `parts`.
std::vector<Var> chunk(Arg x, int64_t parts, int64_t axis = -1);
/// x[begin:end:step] along axis; negative begin and end count from the end, no end is all. ShapeError: outside x,
/// nothing is clipped (of an empty axis, [0, -1) is empty); ValueError: step < 1.
Var slice(Arg x, int64_t axis, int64_t begin, int64_t end = INT64_MAX, int64_t step = 1);
/// x at one position of axis, without the axis; a negative index counts from the end. ShapeError: outside x.
Var select(Arg x, int64_t axis, int64_t index);
enum class PadMode {
  constant,   ///< `value`
  reflect,    ///< dcb|abcd|cba, less than x's extent
  replicate,  ///< aaa|abcd|ddd
  circular,   ///< bcd|abcd|abc, at most x's extent
};
/// x with pads {before, after} per axis, axis 0 first. Negative ones crop: circular shows what is left of x, the other
/// modes show x as it was. ShapeError: x is too short; ValueError: not two pads per axis. The constant absorbs its R.
Var pad(Arg x, Ints pads, PadMode mode = PadMode::constant, double value = 0);
/// x backwards along axes; {} is none. ShapeError: an axis is named twice.
Var flip(Arg x, Axes axes);
/// x moved by shifts[i] along axes[i]; what leaves at one end enters at the other. ValueError: not one shift per axis.
Var roll(Arg x, Ints shifts, Ints axes);
/// abc -> abcabc: x repeats[a] times along axis a (NumPy's tile); too few repeats are for the last axes, more make new
/// leading ones. ValueError: one is negative.
Var repeat(Arg x, Ints repeats);
/// abc -> aabbcc along axis. ValueError: repeats < 0.
Var repeat_interleave(Arg x, int64_t repeats, int64_t axis);

// ---- indexing ---------------------------------------------------------------------------------------------------
// Indices are integers from 0. Where gather and take_along_axis read, a negative one counts from the end; elsewhere it
// is out of range. Sums run in their order: equal on every run.
/// out[.., i.., ..] = x[.., index[i..], ..]: slices of x (any) along axis, which index's axes replace (NumPy's take).
/// ShapeError: more than 8 axes.
Var gather(Arg x, Arg index, int64_t axis = 0);
/// out[i][j] = x[index[i][j]][j] for axis 0 (PyTorch's gather: nothing broadcasts); x any -> index's shape. ShapeError:
/// index has not x's rank, or on another axis more than x's extent.
Var take_along_axis(Arg x, Arg index, int64_t axis);
/// base with src[i][j] added at [index[i][j]][j] for axis 0, repeats adding up; number. ShapeError: index has not src's
/// shape and base's rank, or on another axis more than base's extent. Relevance: epsilon rule.
Var scatter_add(Arg base, Arg index, Arg src, int64_t axis);
/// weight[ids]: ids [..] integer, weight [V, C] any -> [.., C]. The row padding_idx gets no gradient; negative: none.
/// ValueError: padding_idx >= V. Relevance: summed over C to the ids, half to the table if it is data.
Var embedding(Arg ids, Arg weight, int64_t padding_idx = -1);
/// 1 at each id, 0 elsewhere: ids [..] integer -> [.., classes] of any dtype. ValueError: classes < 0. Ends here.
Var one_hot(Arg ids, int64_t classes, DType dtype = f32);
/// One element per row, out[b] = x[b, index[b]]: x [B.., C] any, index [B..] -> [B..]. ShapeError: they do not fit.
Var pick(Arg x, Arg index);
struct TopK {
  Var values, indices;  ///< of one shape; indices are i64 and end sweeps
};
/// The k largest along axis, descending, NaN first, of equals the lowest index; any. ValueError: not 0 <= k <= extent.
TopK topk(Arg x, int64_t k, int64_t axis = -1);
/// Positions (i64) that sort x along axis; stable, NaN is the largest; any. Ends here.
Var argsort(Arg x, int64_t axis = -1, bool descending = false);

// ---- linear algebra -----------------------------------------------------------------------------------------------
/// a [.., m, k] b [.., k, n] -> [.., m, n], leading axes broadcasting; float. Transposed views cost no copy. Sums are
/// f32 for halves; `dtype` f32 gives them unrounded, absent: the operands' dtype. ShapeError: a rank below 2, or k
/// differs. Relevance: epsilon rule, half to each if both carry; variants as docs/relevance.md has them for linear
/// maps.
Var matmul(Arg a, Arg b, std::optional<DType> dtype = {});
/// x weight^T + bias: x [.., in], weight [out, in], bias [out], absent: 0 -> [.., out]; float; dtype as for matmul.
/// ShapeError: they do not fit. Relevance as for matmul; the bias absorbs its share.
Var linear(Arg x, Arg weight, OptionalArg bias = {}, std::optional<DType> dtype = {});
/// NumPy's subscripts, a letter per axis, "..." broadcasting, a letter twice on an operand its diagonal; without "->"
/// the letters that occur once, sorted, behind "...". Written in mul (number), matmul (float: what two operands share
/// and the result has not) and sum, from left to right. ShapeError: they do not fit; ValueError: no operand.
Var einsum(const std::string& equation, const std::vector<Var>& operands,
           std::source_location where = std::source_location::current());
/// y_t = bias + sum_k weight[:, k] x_{t-(K-1)+k}, depthwise: x [B, T, C], weight [C, K >= 1], bias [C], absent: 0;
/// state [B, K-1, C] precedes x, absent: 0 -> [B, T, C]; float. ShapeError: they do not fit. Relevance as for linear;
/// state is data. (As in Mamba, arXiv 2312.00752)
Var causal_conv1d(Arg x, Arg weight, OptionalArg bias = {}, OptionalArg state = {});

// ---- normalisation, softmax, attention, losses: computed in f32 for halves; losses of halves are f32 --------------
/// s = e^x / sum(e^x) along axis; float. Relevance: x (R - s sum(R)), x = -inf taking none (AttnLRP, arXiv 2402.05602,
/// proposition 3.1); the rest is absorbed.
Var softmax(Arg x, int64_t axis = -1);
/// x - logsumexp(x) along axis; float. Relevance through that definition.
Var log_softmax(Arg x, int64_t axis = -1);
/// y = (x - mean) / sqrt(var + eps) weight + bias over the last axis, var biased: x [.., C], weight [C], absent: 1,
/// bias [C], absent: 0; float, weight and bias may be f32 beside an x of halves. ShapeError: they do not fit;
/// ValueError: eps < 0. Relevance holds 1 / sqrt(var + eps) constant (AttnLRP, arXiv 2402.05602). The layer:
/// 1607.06450.
Var layer_norm(Arg x, OptionalArg weight = {}, OptionalArg bias = {}, double eps = 1e-5);
/// y = x / sqrt(mean(x^2) + eps) weight over the last axis: x [.., C], weight [C], absent: 1; float. Errors and
/// relevance as for layer_norm. (arXiv 1910.07467)
Var rms_norm(Arg x, OptionalArg weight = {}, double eps = 1e-6);

struct AttentionOptions {
  bool causal = false;           ///< query i sees keys up to i + S - T
  double scale = 0;              ///< 0: 1 / sqrt(D)
  std::optional<Var> mask = {};  ///< bool or u8, broadcasts to [B, S], 1 = may be seen; absent: all may
  std::optional<Var> bias = {};  ///< float, broadcasts to [B, H, T, S], added to the scores; absent: 0
};
/// softmax(scale q k^T + bias, over visible keys) v: q [B, H, T, D], k [B, G, S, D], v [B, G, S, E] -> [B, H, T, E];
/// float. Head h reads k and v of h / (H / G), G dividing H (arXiv 2305.13245); a query that sees no key gives 0. What
/// a query may not see (masked, behind it, under a bias of -inf) has no part in anything, were it NaN. ShapeError: they
/// do not fit. No T x S values in memory (arXiv 2205.14135). Relevance: softmax's, half to a factor.
Var attention(Arg q, Arg k, Arg v, AttentionOptions options = {});

enum class Reduction { mean, sum, none };
struct CrossEntropyOptions {
  int64_t ignore_index = -100;  ///< rows with this label count for nothing; integer targets
  double label_smoothing = 0;   ///< s: the target is (1 - s) target + s / V (arXiv 1512.00567)
  Reduction reduction = Reduction::mean;
};
/// -log softmax(logits)[target] per row, reduced: logits [.., V >= 1] float; target [..] integer, or soft, of logits'
/// shape and dtype -> [], or [..] for Reduction::none. mean: over rows that count, 0 if none does. ShapeError: they do
/// not fit; ValueError: label_smoothing outside [0, 1], at the run a label that is no class.
Var cross_entropy(Arg logits, Arg target, CrossEntropyOptions options = {});
/// log(1 + e^z) - target z, reduced, for logits z [..] float; target of their shape (ShapeError: nothing broadcasts)
/// and any dtype, or a number -> [], or [..] for Reduction::none. Written with -z and 1 - target where z > 0, and so is
/// its relevance.
Var bce_with_logits(Arg logits, Arg target, Reduction reduction = Reduction::mean);
/// (prediction - target)^2, reduced: prediction [..] float; target of its shape (ShapeError: nothing broadcasts) and
/// any dtype, or a number -> [], or [..] for Reduction::none. Relevance through that definition.
Var mse_loss(Arg prediction, Arg target, Reduction reduction = Reduction::mean);
/// |prediction - target|, reduced; otherwise as mse_loss.
Var l1_loss(Arg prediction, Arg target, Reduction reduction = Reduction::mean);
/// e^2 / 2 for |e| < delta, else delta (|e| - delta / 2), e = prediction - target, reduced; otherwise as mse_loss.
/// ValueError: delta <= 0 or not finite. (Huber 1964)
Var huber_loss(Arg prediction, Arg target, double delta = 1, Reduction reduction = Reduction::mean);
/// Kullback-Leibler divergence: sum over the last axis of target (log target - log_probability), a target of 0 counting
/// for nothing, reduced: log_probability [.., V] float; target, probabilities of its shape (ShapeError) and any dtype
/// -> [], or [..] for Reduction::none. mean: over the rows (PyTorch's batchmean).
Var kl_divergence(Arg log_probability, Arg target, Reduction reduction = Reduction::mean);

// ---- states ------------------------------------------------------------------------------------------------------
/// All values row by row, one behind the other: [n0 + n1 + ..], of one dtype. A plan computes them inside the result,
/// so that gradients become one arena without copies. \throws DTypeError
Var pack(const std::vector<Var>& values, std::source_location where = std::source_location::current());
/// bool []: every element of `values` (floats, any shapes) is finite, and no kernel of this run has refused its data so
/// far (an index out of range): what a step's assignments are guarded by. Ends here. ValueError: no values.
Var all_sound(const std::vector<Var>& values, std::source_location where = std::source_location::current());
/// sum of x^2, f64 []; x floating point of any shape.
Var sum_squares(Arg x);
/// x with x[.., at .. at + m, ..] = update along axis, m being update's extent there; `at` is i64 []. Assigned to the
/// state that x is, it writes in place: a key and value cache. A position out of range is a ValueError of the run.
Var update_slice(Arg x, Arg update, Arg at, int64_t axis);
/// x[.., at .. at + length, ..] along axis; `at` is i64 [].
Var slice_at(Arg x, Arg at, int64_t length, int64_t axis);

// ---- random: counter based (Philox); `key` names the stream, the run's seed advances it ---------------------------
// An element depends on key, seed (the operand Graph::seed) and position only (Salmon et al., SC 2011).
/// Uniform in [low, high), float (bf16 and f16: drawn in f32 and rounded, to high even). ValueError: low > high;
/// ShapeError: a negative extent. Ends here.
Var uniform(Graph& g, Shape shape, int64_t key, double low = 0, double high = 1, DType dtype = f32,
            std::source_location where = std::source_location::current());
/// Normal, float (bf16 and f16: drawn in f32 and rounded). ValueError: stddev < 0; ShapeError: a negative
/// extent. Ends here.
Var normal(Graph& g, Shape shape, int64_t key, double mean = 0, double stddev = 1, DType dtype = f32,
           std::source_location where = std::source_location::current());
/// 1 with probability p, else 0, equal in any dtype. ValueError: p outside [0, 1]; ShapeError: a
/// negative extent. Ends here.
Var bernoulli(Graph& g, Shape shape, int64_t key, double p, DType dtype = f32,
              std::source_location where = std::source_location::current());
/// 0 .. n - 1 in random order: [n] i64. ValueError: n < 0. Ends here.
Var permutation(Graph& g, int64_t n, int64_t key, std::source_location where = std::source_location::current());
/// x times a mask, 0 with probability p, else 1 / (1 - p); float; x itself for p = 0. ValueError: p outside [0, 1). The
/// gradient meets the same mask, relevance passes as it is. (arXiv 1207.0580)
Var dropout(Arg x, double p, int64_t key);
/// A class for each row, drawn with the probabilities softmax(logits), by Gumbel noise: logits [.., V >= 1] float ->
/// [..] i64. Divide by a temperature first. Ends here.
Var categorical(Arg logits, int64_t key);
/// Not random: 0, 1, .., n - 1, [n] of any dtype but bool. ValueError: n < 0. Ends here.
Var arange(Graph& g, int64_t n, DType dtype = i64, std::source_location where = std::source_location::current());

// ---- markers ------------------------------------------------------------------------------------------------------
Var stop_gradient(Arg x);   ///< x, any; gradients end here, relevance passes
Var stop_relevance(Arg x);  ///< x, any; relevance ends here, gradients pass

}  // namespace whence
