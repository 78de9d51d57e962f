// einsum, lowered to permute, reshape, sum, mul and matmul, operands from left to right.
#include <algorithm>
#include <map>

#include "whence/ops/ops.h"

namespace whence {
namespace {

// A value and the label of each of its axes.
struct Term {
  Var value;
  std::string labels;
};

[[noreturn]] void bad(const std::string& equation, const std::string& what) {
  throw ShapeError("[einsum] '" + equation + "': " + what);
}

bool has(const std::string& labels, char l) { return labels.find(l) != labels.npos; }
int axis_of(const Term& t, char l) { return int(t.labels.find(l)); }
int64_t extent(const Term& t, char l) { return t.value.shape()[axis_of(t, l)]; }

// The term with its axes in the order of `labels` (the same set).
Term ordered(const Term& t, const std::string& labels) {
  Ints axes;
  for (char l : labels) axes.push_back(axis_of(t, l));
  return {permute(t.value, axes), labels};
}

// A label that occurs twice on one operand selects the diagonal: in [.., n, n] flattened, every (n + 1)-th element.
Term diagonal(Term t, const std::string& equation) {
  for (size_t i = 0; i < t.labels.size(); ++i) {
    size_t j = t.labels.find(t.labels[i], i + 1);
    if (j == t.labels.npos) continue;
    int64_t n = t.value.shape()[int(i)];
    if (t.value.shape()[int(j)] != n)
      bad(equation, std::string("'") + t.labels[i] + "' has extents " + std::to_string(n) + " and " +
                        std::to_string(t.value.shape()[int(j)]));
    Ints axes;
    std::string labels;
    Shape s;
    for (size_t k = 0; k < t.labels.size(); ++k)
      if (k != i && k != j) {
        axes.push_back(int64_t(k));
        labels += t.labels[k];
        s.push_back(t.value.shape()[int(k)]);
      }
    axes.push_back(int64_t(i));
    axes.push_back(int64_t(j));
    s.push_back(n * n);
    Var flat = reshape(permute(t.value, axes), s);
    t = diagonal({n ? slice(flat, -1, 0, n * n, n + 1) : flat, labels + t.labels[i]}, equation);
    break;
  }
  return t;
}

// Sums the axes whose label is not in `keep`.
Term reduced(const Term& t, const std::string& keep) {
  Ints axes;
  std::string labels;
  for (size_t i = 0; i < t.labels.size(); ++i) {
    if (has(keep, t.labels[i])) labels += t.labels[i];
    else axes.push_back(int64_t(i));
  }
  return axes.empty() ? t : Term{cast(sum(t.value, axes), t.value.dtype()), labels};
}

int64_t product(const Term& t, const std::string& labels) {
  int64_t n = 1;
  for (char l : labels) n *= extent(t, l);
  return n;
}

// The product of two terms over the labels they share, summed over those that nobody after them needs.
Term contracted(Term a, Term b, const std::string& keep) {
  a = reduced(a, keep + b.labels);
  b = reduced(b, keep + a.labels);
  std::string batch, inner, left, right;
  for (char l : a.labels) (!has(b.labels, l) ? left : has(keep, l) ? batch : inner) += l;
  for (char l : b.labels)
    if (!has(a.labels, l)) right += l;
  std::string labels = batch + left + right;
  Shape s;
  for (char l : batch + left) s.push_back(extent(a, l));
  for (char l : right) s.push_back(extent(b, l));
  if (inner.empty()) {  // nothing to sum: a broadcast product
    Shape sa = s, sb = s;
    for (size_t i = 0; i < right.size(); ++i) sa[int(batch.size() + left.size() + i)] = 1;
    for (size_t i = 0; i < left.size(); ++i) sb[int(batch.size() + i)] = 1;
    return {reshape(ordered(a, batch + left).value, sa) * reshape(ordered(b, batch + right).value, sb), labels};
  }
  int64_t n = product(a, batch), k = product(a, inner);
  Var x = reshape(ordered(a, batch + left + inner).value, {n, product(a, left), k});
  Var y = reshape(ordered(b, batch + inner + right).value, {n, k, product(b, right)});
  return {reshape(matmul(x, y), s), labels};
}

struct Equation {
  std::vector<std::string> operands;
  std::string output;
  bool explicit_output = false;
};

// Spaces are dropped; "..." becomes '.' here.
Equation parse(const std::string& text) {
  Equation e;
  e.operands.emplace_back();
  std::string* to = &e.operands.back();
  for (size_t i = 0; i < text.size(); ++i) {
    char ch = text[i];
    if (ch == ' ') continue;
    if (ch == ',' && !e.explicit_output) {
      e.operands.emplace_back();
      to = &e.operands.back();
    } else if (text.compare(i, 2, "->") == 0 && !e.explicit_output) {
      e.explicit_output = true;
      to = &e.output;
      ++i;
    } else if (text.compare(i, 3, "...") == 0 && !has(*to, '.')) {
      *to += '.';
      i += 2;
    } else if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z')) {
      *to += ch;
    } else {
      bad(text, std::string("unexpected '") + ch + "' at position " + std::to_string(i));
    }
  }
  return e;
}

}  // namespace

Var einsum(const std::string& equation, const std::vector<Var>& operands, std::source_location where) {
  LocationGuard at(graph_of("einsum", operands, where), where);
  Equation e = parse(equation);
  if (e.operands.size() != operands.size())
    bad(equation, "has subscripts for " + std::to_string(e.operands.size()) + " operands, got " +
                      std::to_string(operands.size()));

  // The axes under an ellipsis, aligned from the right, get the labels '0' (last), '1', ...; those of extent one
  // broadcast.
  int wide = 0;
  for (size_t i = 0; i < operands.size(); ++i) {
    int named = int(e.operands[i].size()) - has(e.operands[i], '.'), rank = operands[i].rank();
    if (has(e.operands[i], '.') ? rank < named : rank != named)
      bad(equation, "operand " + std::to_string(i) + " has shape " + operands[i].shape().str() + ", its subscripts '" +
                        e.operands[i] + "' name " + std::to_string(named) + " axes");
    if (has(e.operands[i], '.')) wide = std::max(wide, rank - named);
  }
  auto dots = [](int n) {
    std::string s;
    for (int i = n; i-- > 0;) s += char('0' + i);
    return s;
  };
  auto expand = [&](std::string s, int n) {
    if (size_t p = s.find('.'); p != s.npos) s = s.replace(p, 1, dots(n));
    return s;
  };
  std::vector<Term> terms;
  std::map<char, int64_t> extents;
  for (size_t i = 0; i < operands.size(); ++i) {
    int named = int(e.operands[i].size()) - has(e.operands[i], '.');
    Term t{operands[i], expand(e.operands[i], operands[i].rank() - named)};
    std::string kept;  // broadcast axes of an ellipsis go; the other operands bring them back
    Shape s;
    for (size_t a = 0; a < t.labels.size(); ++a) {
      int64_t n = t.value.shape()[int(a)];
      if (t.labels[a] <= '9' && n == 1 && operands.size() > 1) continue;
      kept += t.labels[a];
      s.push_back(n);
    }
    t = diagonal({reshape(t.value, s), kept}, equation);
    for (char l : t.labels) {
      auto [it, fresh] = extents.emplace(l, extent(t, l));
      if (!fresh && it->second != extent(t, l))
        bad(equation, std::string(l <= '9' ? "an axis under '...'" : std::string("'") + l + "'") + " has extents " +
                          std::to_string(it->second) + " and " + std::to_string(extent(t, l)));
    }
    terms.push_back(t);
  }

  std::string output = expand(e.output, wide);
  if (!e.explicit_output) {  // labels that occur once, in alphabetical order, behind the ellipsis
    output = dots(wide);
    std::string all;
    for (const std::string& s : e.operands) all += s;
    for (int l = 'A'; l <= 'z'; ++l)
      if (std::count(all.begin(), all.end(), char(l)) == 1) output += char(l);
  }
  for (size_t i = 0; i < output.size(); ++i) {
    if (has(output.substr(i + 1), output[i]))
      bad(equation, std::string("'") + output[i] + "' occurs twice in the output");
    if (output[i] > '9' && !extents.contains(output[i]))
      bad(equation, std::string("'") + output[i] + "' of the output is on no operand");
  }

  // Halves are widened where more than one step follows, and rounded at the end.
  DType dtype = operands[0].dtype();
  bool steps = operands.size() > 2;
  for (const Term& t : terms)
    for (char l : t.labels)
      steps |= operands.size() == 2 && !has(output, l) && !(has(terms[0].labels, l) && has(terms[1].labels, l));
  for (Term& t : terms)
    if (steps && t.value.dtype() == dtype) t.value = widened(t.value);

  Term r = terms[0];
  for (size_t i = 1; i < terms.size(); ++i) {
    std::string keep = output;
    for (size_t j = i + 1; j < terms.size(); ++j) keep += terms[j].labels;
    r = contracted(r, terms[i], keep);
  }
  r = reduced(r, output);
  std::string present;
  Shape full;
  for (char l : output) {
    if (has(r.labels, l)) present += l;
    full.push_back(has(r.labels, l) ? extent(r, l) : 1);  // an ellipsis axis of extent one everywhere
  }
  return cast(reshape(ordered(r, present).value, full), dtype);
}

}  // namespace whence
