#include "whence/models/generate.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>

#include "whence/tensor/philox.h"

namespace whence::models {

namespace {

void check(const GenerateOptions& o) {
  if (!(o.temperature >= 0) || std::isinf(o.temperature))
    throw ValueError("generate: temperature must be finite and not negative, got " + std::to_string(o.temperature));
  if (!(o.top_p > 0 && o.top_p <= 1))
    throw ValueError("generate: top_p must be in (0, 1], got " + std::to_string(o.top_p));
  if (o.top_k < 0) throw ValueError("generate: top_k must not be negative, got " + std::to_string(o.top_k));
}

}  // namespace

int64_t sample(const Tensor& logits, const GenerateOptions& o, double draw) {
  check(o);
  const Tensor values = logits.to(f32).contiguous_tensor();
  const float* x = values.data<float>();
  const int64_t n = values.numel();
  if (n == 0) throw ValueError("generate: no logits");
  int64_t best = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (std::isnan(x[i])) throw ValueError("generate: the logit of token " + std::to_string(i) + " is NaN");
    if (x[i] > x[best]) best = i;
  }
  if (o.temperature == 0) return best;

  // The most probable first, of equals the lowest token.
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  const int64_t kept = o.top_k > 0 ? std::min(o.top_k, n) : n;
  auto before = [&](int64_t a, int64_t b) { return x[a] != x[b] ? x[a] > x[b] : a < b; };
  if (kept < n || o.top_p < 1) {
    std::partial_sort(order.begin(), order.begin() + kept, order.end(), before);
    order.resize(size_t(kept));
  }
  std::vector<double> upto(order.size());  // probabilities so far, times a constant
  double total = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    total += std::exp((double(x[order[i]]) - double(x[best])) / o.temperature);
    upto[i] = total;
  }
  if (o.top_p < 1) {
    auto last = std::lower_bound(upto.begin(), upto.end(), o.top_p * total);
    upto.resize(std::min(upto.size(), size_t(last - upto.begin()) + 1));
    total = upto.back();
  }
  auto at = std::upper_bound(upto.begin(), upto.end(), draw * total) - upto.begin();
  return order[size_t(std::min<int64_t>(at, int64_t(upto.size()) - 1))];
}

// Sequences stand right-aligned: prompts that are shorter begin later, at `start`, and all go on at the same place.
struct Decoder::State {
  CacheLayout layout;
  DType dtype;
  Next next;
  std::optional<KvCache> cache;
  struct Step {
    Plan plan;
    Results results;
  };
  std::map<std::pair<int64_t, int64_t>, Step> steps;  // by tokens at once and places shown
  int64_t at = -1;                                    // the place of the next token
  Tensor start, ids, place;                           // [B], [B, 1], []: what plans are fed

  Plan record(int64_t T, int64_t shown);
  Tensor run(const Tensor& tokens, int64_t first, int64_t shown);
};

// ids [B, T] at the places at .. at + T - 1 -> logits [B, V] of the last.
Plan Decoder::State::record(int64_t T, int64_t shown) {
  Graph g;
  const int64_t B = cache->batch();
  Var ids = g.input("ids", {B, T}, i64), at = g.input("at", {}, i64, {.carries = false});
  Var begin = unsqueeze(g.input("start", {B}, i64, {.carries = false}), 1);  // (B, 1)
  Var places = arange(g, shown ? shown : T);                                 // (S)
  DecoderInputs in;
  in.cache = &*cache;
  in.at = at;
  in.shown = shown;
  in.mask = greater_equal(places, begin);  // (B, S)
  if (shown) in.mask = logical_and(in.mask, less_equal(places, at));
  in.positions = maximum((T > 1 ? at + arange(g, T) : at) - begin, 0);  // (B, T)
  return compile({next(ids, in)});
}

Tensor Decoder::State::run(const Tensor& tokens, int64_t first, int64_t shown) {
  Step& step = steps[{tokens.shape()[1], shown}];
  if (!step.plan.defined()) step.plan = record(tokens.shape()[1], shown);
  place.data<int64_t>()[0] = first;
  step.plan.run({{"ids", tokens}, {"at", place}, {"start", start}}, {}, step.results);
  at = first + tokens.shape()[1];
  return step.results[0];
}

Decoder::Decoder(const CacheLayout& layout, DType dtype, Next next)
    : state_(new State{layout, dtype, std::move(next), {}, {}, -1, {}, {}, {}}) {}
Decoder::~Decoder() = default;

Tensor Decoder::start(std::span<const Tokens> prompts, int64_t room) {
  State& s = *state_;
  const int64_t B = int64_t(prompts.size());
  if (B == 0) throw ValueError("generate: no prompts");
  int64_t T = 0;
  for (const Tokens& prompt : prompts) {
    if (prompt.empty()) throw ValueError("generate: an empty prompt (give it a token that begins texts)");
    T = std::max(T, int64_t(prompt.size()));
  }
  const int64_t context = s.layout.context ? s.layout.context : INT64_MAX;
  if (T > context)
    throw ValueError("generate: a prompt of " + std::to_string(T) + " tokens is longer than the model's context of " +
                     std::to_string(context));
  // Sizes double, so that few caches and plans are made.
  const int64_t need = std::min(context, T + std::max<int64_t>(room, 0));
  const int64_t length = std::min(context, int64_t(std::bit_ceil(uint64_t(std::max<int64_t>(need, 64)))));
  if (!s.cache || s.cache->batch() != B || s.cache->length() < length) {
    s.steps.clear();
    s.cache.emplace(s.layout, B, length, s.dtype);
  }
  s.start = Tensor::empty({B}, i64);
  s.place = Tensor::empty({}, i64);
  s.ids = Tensor::empty({B, 1}, i64);
  Tensor ids = Tensor::zeros({B, T}, i64);
  for (int64_t b = 0; b < B; ++b) {
    const Tokens& prompt = prompts[size_t(b)];
    const int64_t begin = T - int64_t(prompt.size());
    s.start.data<int64_t>()[b] = begin;
    std::copy(prompt.begin(), prompt.end(), ids.data<int64_t>() + b * T + begin);
  }
  return s.run(ids, 0, 0);
}

Tensor Decoder::step(std::span<const int64_t> tokens) {
  State& s = *state_;
  if (s.at < 0) throw ValueError("generate: a step before the start");
  if (int64_t(tokens.size()) != s.cache->batch())
    throw ValueError("generate: " + std::to_string(tokens.size()) + " tokens for " + std::to_string(s.cache->batch()) +
                     " sequences");
  if (s.at >= s.cache->length()) throw ValueError("generate: the cache is full");
  std::copy(tokens.begin(), tokens.end(), s.ids.data<int64_t>());
  const int64_t shown = int64_t(std::bit_ceil(uint64_t(std::max<int64_t>(s.at + 1, 64))));
  return s.run(s.ids, s.at, std::min(shown, s.cache->length()));
}

std::vector<Tokens> Decoder::generate(std::span<const Tokens> prompts, const GenerateOptions& o) {
  check(o);
  std::vector<Tokens> texts(prompts.size());
  if (o.max_new_tokens < 1) return texts;
  Tensor logits = start(prompts, o.max_new_tokens);
  Tokens last(prompts.size());
  std::vector<bool> ended(prompts.size());
  for (int64_t n = 0;; ++n) {
    size_t open = 0;
    for (size_t b = 0; b < texts.size(); ++b) {
      if (ended[b]) continue;
      const philox::Words w = philox::words(o.seed, b, uint64_t(n));
      last[b] = sample(logits.slice(0, int64_t(b), int64_t(b) + 1), o, philox::uniform53(w.w[0], w.w[1]));
      texts[b].push_back(last[b]);
      if (o.on_token) o.on_token(b, last[b]);
      ended[b] = std::find(o.stop.begin(), o.stop.end(), last[b]) != o.stop.end();
      open += !ended[b];
    }
    if (open == 0 || n + 1 == o.max_new_tokens || state_->at >= state_->cache->length()) return texts;
    logits = step(last);
  }
}

}  // namespace whence::models
