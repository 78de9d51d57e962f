// Complex numbers as two Vars; in files they are pairs (re, im) on the last axis.
#pragma once
#include "whence/whence.h"

namespace whence::goldens {

struct Complex {
  Var re, im;
  Complex(Var re, Var im) : re(re), im(im) {}
  explicit Complex(Var pair) : re(select(pair, -1, 0)), im(select(pair, -1, 1)) {}
  Var pair() const { return stack({re, im}, -1); }
};
inline Complex conjugate(Complex a) { return {a.re, -a.im}; }
inline Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
inline Complex operator*(Complex a, Complex b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }
inline Complex operator/(Complex a, Complex b) {
  Complex n = a * conjugate(b);
  Var d = square(b.re) + square(b.im);
  return {n.re / d, n.im / d};
}
inline Complex complex_exp(Complex a) { return {exp(a.re) * cos(a.im), exp(a.re) * sin(a.im)}; }
inline Complex complex_sum(Complex a, const Ints& axes) { return {sum(a.re, axes), sum(a.im, axes)}; }

}  // namespace whence::goldens
