// Declared operations that may not be linked yet: a weak reference is null then, and the case counts as "ops missing".
#pragma once
#include "tests/goldens/runner.h"

namespace whence {
#define PENDING __attribute__((weak))
PENDING Var softmax(Arg, int64_t);
PENDING Var log_softmax(Arg, int64_t);
PENDING Var layer_norm(Arg, std::optional<Arg>, std::optional<Arg>, double);
PENDING Var rms_norm(Arg, std::optional<Arg>, double);
PENDING Var max(Arg, Ints, bool);
PENDING Var min(Arg, Ints, bool);
PENDING Var argmax(Arg, int64_t, bool);
PENDING Var logsumexp(Arg, Ints, bool);
PENDING Var variance(Arg, Ints, bool, int64_t);
PENDING Var cumsum(Arg, int64_t, bool);
PENDING Var linear_scan(Arg, Arg, int64_t, bool);
PENDING Var gather(Arg, Arg, int64_t);
PENDING Var take_along_axis(Arg, Arg, int64_t);
PENDING Var scatter_add(Arg, Arg, Arg, int64_t);
PENDING Var embedding(Arg, Arg, int64_t);
PENDING Var one_hot(Arg, int64_t, DType);
PENDING Var pick(Arg, Arg);
PENDING TopK topk(Arg, int64_t, int64_t);
PENDING Var argsort(Arg, int64_t, bool);
PENDING Var einsum(const std::string&, const std::vector<Var>&, std::source_location);
PENDING Var causal_conv1d(Arg, Arg, std::optional<Arg>, std::optional<Arg>);
PENDING Var attention(Arg, Arg, Arg, AttentionOptions);
PENDING Var cross_entropy(Arg, Arg, CrossEntropyOptions);
PENDING Var bce_with_logits(Arg, Arg, Reduction);
PENDING Var mse_loss(Arg, Arg, Reduction);
#undef PENDING
}  // namespace whence

#define NEED(f) do { if (static_cast<decltype(&f)>(f) == nullptr) throw OpsMissing(#f); } while (0)
