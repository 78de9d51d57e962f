// Linear recurrences that a program writes in other ops, found by their form:
//
//   h_t = a_t h_{t-1} + b_t u_t,  y_t = c_t h_t       products by mul or matmul; or h = linear_scan(a, b u)
//
// Seen from the state h, the factors a, b and c are coefficients, and u is data. The relevance variant "recurrent" of a
// product (Rule::variant; lrp::mamba) sends everything to h and to u there, and half to each factor elsewhere.
#pragma once
#include <array>
#include <map>
#include <vector>

#include "whence/autograd/graph.h"

namespace whence {

class Recurrences {
 public:
  /// \param end      of the nodes to look at
  /// \param carries  by value: whether it carries relevance
  /// \param carried  in the body of a scan: a state when the step begins, and when it ends
  Recurrences(const Graph& g, NodeId end, const std::vector<char>& carries,
              std::span<const std::pair<Var, Var>> carried = {});
  /// The factor of a product in a recurrence that is state or data, 0 or 1; -1 for every other node. Of b u it is the
  /// one that all others are computed from (u, where b = b(u)); else the one with fewer of the axes that c sums over;
  /// else the one that a is not computed from; else the last.
  int data_factor(NodeId product) const;

 private:
  using Operands = std::array<ValueId, 2>;
  Operands operands(ValueId v) const;
  ValueId source(ValueId v) const;
  bool is_sum(ValueId v) const;
  bool is_mul(ValueId v) const;
  bool is_product(ValueId v) const;
  bool is_step(ValueId v) const;
  bool alike(ValueId v, ValueId w) const;  // two products of as many factors
  void find_states();
  void find_readouts();
  void choose(ValueId product, ValueId decay, bool state_shaped);
  void leaves(ValueId v, std::vector<ValueId>& list) const;
  bool descends(ValueId v, ValueId from) const;
  int summed_axes(const Shape& s) const;

  bool is_carried(ValueId v) const;
  const Graph& g_;
  const NodeId end_;
  const std::span<const std::pair<Var, Var>> carried_;
  const std::vector<char>& carries_;
  std::vector<char> state_;                         // by value
  std::map<NodeId, int> factor_;                    // by product
  std::vector<std::pair<ValueId, ValueId>> feeds_;  // a product that is added to a state, and that step's a
  std::vector<char> summed_;                        // by axis, counted from the end: a readout sums over it
};

}  // namespace whence
