// The cells of xLSTM (Beck et al. 2024, arXiv 2405.04517) as compositions of ops.
#pragma once
#include <vector>

#include "whence/ops/ops.h"

namespace whence::models {

struct MlstmState {
  Var C, n, m;  ///< [B, H, D, Dv], [B, H, D], [B, H]
};
struct Mlstm {
  Var h;  ///< [B, H, T, Dv]
  MlstmState state;
};
// q and k [B, H, T, D], v [B, H, T, Dv]; pre-activations of input and forget gate [B, H, T]. h is normalised by
// max(|q n|, e^-m) + eps: with eps > 0 the three forms differ by about eps, since their stabilisers m do.
/// All steps at once. `state.m` is that of every step here, and there is no C and no n.
Mlstm mlstm_parallel(Var q, Var k, Var v, Var ig, Var fg, double eps);
/// Step by step: a scan. C and n hold k / sqrt(D).
Mlstm mlstm_recurrent(Var q, Var k, Var v, Var ig, Var fg, double eps, const MlstmState& from);
/// Parallel within a chunk, recurrent between chunks; the last chunk may be shorter. C and n hold k as it is.
Mlstm mlstm_chunkwise(Var q, Var k, Var v, Var ig, Var fg, double eps, int64_t chunk_size, MlstmState state);
/// The state before the first step, for q and v.
MlstmState mlstm_zeros(Var q, Var v);

struct SlstmState {
  Var y, c, n, m;  ///< [B, H, D]; undefined: the beginning
};
/// wx [B, T, gate, H, D] with gates i, f, z, o; R [H, in, gate, out]; bias [H, gate, out]. y of every step, [B, T, H,
/// D]; `state` becomes that after the last step. One node, whatever T is (ops/scan.h).
Var slstm(Var wx, Var R, Var bias, SlstmState& state);

/// Block-diagonal: x [B, T, H in], w [H, out, in] -> [B, T, H out].
Var headwise(Var x, Var w);

}  // namespace whence::models
