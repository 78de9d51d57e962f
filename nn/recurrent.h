// Recurrent layers on scan (ops/scan.h): their graph does not grow with the sequence. Weights, names and gates are
// PyTorch's, so that its state dicts load as they are.
#pragma once
#include "whence/nn/layers.h"
#include "whence/ops/scan.h"

namespace whence::nn {

struct RecurrentOptions {
  int64_t layers = 1;
  bool bias = true;
  bool bidirectional = false;  ///< a second chain of steps, from the end; results stand side by side
  double dropout = 0;          ///< on what one layer gives to the next, while training
};

/// Parameters by layer l and direction: weight_ih_l0 [G H, in], weight_hh_l0 [G H, H], bias_ih_l0 and bias_hh_l0 [G H],
/// the other direction's with "_reverse" behind; G gates. All start uniform(+-1/sqrt(H)). Later layers read what both
/// directions of the one before give.
class Recurrent : public Module {
 public:
  const int64_t hidden;
  const RecurrentOptions options;
  int64_t directions() const { return options.bidirectional ? 2 : 1; }

 protected:
  Recurrent(Module& parent, const std::string& name, const char* kind, int64_t gates, int64_t in, int64_t hidden,
            const RecurrentOptions& options, std::source_location where);
  struct Chain {
    Parameter &ih, &hh;
    Parameter *bias_ih, *bias_hh;  // nullptr: none
  };
  using Step = ScanNext (*)(const ScanStep&);
  /// Runs all layers; `states` [layers directions, B, H] each, what `step` carries. Returns the result and final
  /// states.
  std::vector<Var> run(Arg x, std::vector<Var> states, const std::optional<Var>& lengths, Step step) const;
  const char* kind_;

 private:
  std::vector<Chain> chains_;     // by layer and direction
  ModuleList<Dropout> dropouts_;  // before each layer but the first
};

/// Long short-term memory with gates i, f, g, o: c' = f c + i g, h' = o tanh(c'). (Hochreiter and Schmidhuber 1997,
/// with forget gates as in PyTorch)
struct LSTM : Recurrent {
  LSTM(Module& parent, const std::string& name, int64_t in, int64_t hidden, const RecurrentOptions& options = {},
       std::source_location where = std::source_location::current());
  struct State {
    Var h, c;  ///< [layers directions, B, H]
  };
  struct Result {
    Var out;      ///< [B, T, directions H]: h at every step of the last layer
    State state;  ///< after each chain's last step
  };
  /// \param x        [B, T, in] float
  /// \param initial  absent: zeros
  /// \param lengths  integer [B]: sample b has its first lengths[b] steps; out behind them is 0, and the state is that
  ///                 after them; absent: all T
  /// \throws ShapeError, DTypeError for what does not fit
  Result operator()(Arg x, const std::optional<State>& initial = {}, const std::optional<Var>& lengths = {}) const;
};

/// Gated recurrent unit with gates r, z, n: n = tanh(x_n + r h_n), h' = (1 - z) n + z h. (Cho et al. 2014, arXiv
/// 1406.1078, the reset gate behind the product as in PyTorch)
struct GRU : Recurrent {
  GRU(Module& parent, const std::string& name, int64_t in, int64_t hidden, const RecurrentOptions& options = {},
      std::source_location where = std::source_location::current());
  struct Result {
    Var out;  ///< [B, T, directions H]
    Var h;    ///< [layers directions, B, H]
  };
  /// As LSTM; `initial` is h [layers directions, B, H].
  Result operator()(Arg x, const std::optional<Var>& initial = {}, const std::optional<Var>& lengths = {}) const;
};

/// One chain's weights.
struct RecurrentWeights {
  Var ih, hh;
  std::optional<Var> bias_ih{}, bias_hh{};
};
/// One chain of an LSTM over x [B, T, in] from h and c [B, H] each. carries: h, c; out: h [B, T, H].
Scanned lstm_chain(Arg x, const RecurrentWeights& weights, Var h, Var c, const ScanOptions& options = {});
/// The same of a GRU. carries: h; out: h [B, T, H].
Scanned gru_chain(Arg x, const RecurrentWeights& weights, Var h, const ScanOptions& options = {});

}  // namespace whence::nn
