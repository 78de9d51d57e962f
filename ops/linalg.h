// Factorisations of matrices and what follows from them: the last two axes are the matrix, leading axes a batch. All
// compute in f64; halves and f32 are rounded once. A matrix that has no result (not positive definite, singular) gives
// NaN in its own place of the batch, and the run goes on. What the comments leave unsaid is at the head of ops/ops.h.
#pragma once
#include "whence/ops/ops.h"

namespace whence {

/// The lower L with L L^T = (a + a^T) / 2 + jitter I: a [.., n, n] float -> its shape, zeros above the diagonal; not
/// positive definite: NaN. ShapeError: not square. Relevance: L has degree 1/2 in a, R_a = 2 a vjp(R / stab(L)); what
/// the jitter explains is absorbed. (gradient: arXiv 1602.07527)
Var cholesky(Arg a, double jitter = 0);

/// x with a x = b, by LU with partial pivoting: a [.., n, n], b [.., n, m] float, leading axes broadcasting -> [.., n,
/// m]; singular: NaN. ShapeError: they do not fit. Relevance: a is held fixed and b takes all, R_b = b vjp(R /
/// stab(x)); a does when b carries nothing. (gradient: Giles, Oxford NA-08/01, 2.3.1)
Var solve(Arg a, Arg b);
/// solve with what stands on and below the diagonal of a (lower), or on and above; the rest is not looked at.
Var solve_triangular(Arg a, Arg b, bool lower = true);
/// The inverse: solve with a unit matrix, with its gradient: a [.., n, n] float -> its shape; singular: NaN.
/// ShapeError: not square. Relevance: all to a.
Var inverse(Arg a);

struct SignLogdet {
  Var sign, logabsdet;  ///< of one shape; sign is -1, 0 or 1 and ends sweeps
};
/// Sign and log|det a|, which is -infinity where the sign is 0: a [.., n, n] float -> [..]. ShapeError: not square.
/// Relevance: det has degree n and the logarithm passes R, R_a = R a a^-T / n. (gradient: Giles, 2.2.4)
SignLogdet slogdet(Arg a);
/// log det a, NaN where the determinant is negative, -infinity where it is 0: a [.., n, n] float -> [..]. ShapeError:
/// not square. Relevance and gradient as for slogdet.
Var logdet(Arg a);

struct Eigenpairs {
  Var values, vectors;  ///< [.., n] ascending, and [.., n, n]: column k belongs to values[k]
};
/// a's eigenvalues and orthonormal eigenvectors, a read as (a + a^T) / 2, by Jacobi's rotations: a [.., n, n] float.
/// Each vector's entry of largest magnitude is positive. ShapeError: not square. Equal eigenvalues have no gradient of
/// their vectors: NaN, where one arrives there. Relevance: values have degree 1, R_a = a vjp(R / stab(values)); what
/// arrives at vectors, of degree 0, is absorbed. (gradient: Giles, 3.1)
Eigenpairs eigh(Arg a);
/// The eigenvalues of eigh: a [.., n, n] float -> [.., n]. ShapeError: not square.
Var eigvalsh(Arg a);

}  // namespace whence
