#include "whence/models/mamba.h"

#include <cmath>

#include "whence/models/config.h"

namespace whence::models {

using nn::Init;

MambaConfig MambaConfig::from_json(std::string_view text) {
  ConfigJson json(text);
  MambaConfig c;
  json.read("vocab_size", c.vocab_size);
  json.read("hidden_size", c.hidden_size);
  json.read("num_hidden_layers", c.layers);
  json.read("state_size", c.state_size);
  json.read("conv_kernel", c.conv_width);
  json.read("expand", c.expand);
  json.read("time_step_rank", c.time_step_rank);
  json.read("num_heads", c.heads);
  json.read("n_groups", c.groups);
  json.read("use_bias", c.bias);
  json.read("use_conv_bias", c.conv_bias);
  json.read("tie_word_embeddings", c.tied);
  json.read("layer_norm_epsilon", c.layer_norm_eps);
  json.read("initializer_range", c.initializer_range);
  json.read("time_step_min", c.time_step_min);
  json.read("time_step_max", c.time_step_max);
  std::vector<double> limit;
  json.read("time_step_limit", limit);
  if (limit.size() == 2) {
    c.time_step_low = limit[0];
    if (std::isfinite(limit[1])) c.time_step_high = limit[1];
  }
  return c;
}

Var selective_scan(Var u, Var dt, Var A, Var B, Var C, Var D) {
  Var decay = exp(unsqueeze(dt, -1) * A), drive = unsqueeze(dt * u, -1) * unsqueeze(B, 2);  // (B, T, E, N)
  return sum(linear_scan(decay, drive, 1) * unsqueeze(C, 2), {-1}) + u * D;
}

namespace {

// Where softplus gives steps spread evenly, by their logarithms, between the smallest and the largest: [n].
Init step_bias(int64_t n, const MambaConfig& c) {
  Tensor t = Tensor::empty({n}, f64);
  for (int64_t i = 0; i < n; ++i) {
    const double share = n > 1 ? double(i) / double(n - 1) : 0.5;
    const double step = std::exp(std::log(c.time_step_min) + share * std::log(c.time_step_max / c.time_step_min));
    t.data<double>()[i] = step + std::log(-std::expm1(-step));
  }
  return Init::values(t);
}

// log(1), log(2), .., log(n).
Init logs(int64_t n) {
  Tensor t = Tensor::empty({n}, f64);
  for (int64_t i = 0; i < n; ++i) t.data<double>()[i] = std::log(double(i + 1));
  return Init::values(t);
}

ScaleNorm::Options norm(const MambaConfig& c) { return {.eps = c.layer_norm_eps}; }
int64_t conv_channels(const MambaConfig& c) { return c.inner() + 2 * c.groups * c.state_size; }

}  // namespace

MambaMixer::MambaMixer(Module& parent, const std::string& name, const MambaConfig& c)
    : Module(parent, name),
      in_proj(*this, "in_proj", c.hidden_size, 2 * c.inner(), c.bias),
      conv1d(*this, "conv1d", c.inner(), c.conv_width, c.conv_bias),
      x_proj(*this, "x_proj", c.inner(), c.rank() + 2 * c.state_size, false),
      dt_proj(*this, "dt_proj", c.rank(), c.inner(), false),
      dt_bias(parameter("dt_proj.bias", {c.inner()}, step_bias(c.inner(), c))),
      A_log(parameter("A_log", {c.inner(), c.state_size}, logs(c.state_size))),
      D(parameter("D", {c.inner()}, Init::ones())),
      out_proj(*this, "out_proj", c.inner(), c.hidden_size, c.bias) {}

Var MambaMixer::operator()(Var x) const {
  nn::ModuleScope here(*this, x);
  Graph& g = x.graph();
  auto in = chunk(in_proj(x), 2);
  Var u = silu(conv1d(in[0])), A = neg(exp(A_log.in(g)));  // (B, T, E), (E, N)
  const int64_t N = A.size(1);
  auto parts = split(x_proj(u), {dt_proj.weight.shape()[1], N, N});
  Var dt = softplus(linear(parts[0], dt_proj.weight.in(g), dt_bias.in(g)));
  return out_proj(selective_scan(u, dt, A, parts[1], parts[2], D.in(g)) * silu(in[1]));
}

Mamba2Mixer::Mamba2Mixer(Module& parent, const std::string& name, const MambaConfig& c)
    : Module(parent, name),
      config(c),
      in_proj(*this, "in_proj", c.hidden_size, c.inner() + conv_channels(c) + c.heads, c.bias),
      conv1d(*this, "conv1d", conv_channels(c), c.conv_width, c.conv_bias),
      dt_bias(parameter("dt_bias", {c.heads}, step_bias(c.heads, c))),
      A_log(parameter("A_log", {c.heads}, logs(c.heads))),
      D(parameter("D", {c.heads}, Init::ones())),
      norm(*this, "norm", c.inner(), models::norm(c)),
      out_proj(*this, "out_proj", c.inner(), c.hidden_size, c.bias) {
  if (c.inner() % c.heads || c.groups < 1 || c.heads % c.groups)
    throw ShapeError("'" + this->name() + "': " + std::to_string(c.inner()) + " channels, " + std::to_string(c.heads) +
                     " heads and " + std::to_string(c.groups) + " groups do not divide");
}

Var Mamba2Mixer::operator()(Var x) const {
  nn::ModuleScope here(*this, x);
  Graph& g = x.graph();
  const int64_t H = config.heads, G = config.groups, N = config.state_size, E = config.inner();
  const int64_t B = x.size(0), T = x.size(1);
  auto in = split(in_proj(x), {E, E + 2 * G * N, H});  // z, (x, B, C), dt
  auto parts = split(silu(conv1d(in[1])), {E, G * N, G * N});
  Var u = reshape(parts[0], {B, T, H, E / H});
  auto of_heads = [&](Var v) { return repeat_interleave(reshape(v, {B, T, G, N}), H / G, 2); };  // (B, T, H, N)
  Var dt = softplus(in[2] + dt_bias.in(g));
  if (config.time_step_low > 0) dt = maximum(dt, config.time_step_low);
  if (config.time_step_high > 0) dt = minimum(dt, config.time_step_high);
  Var decay = exp(dt * neg(exp(A_log.in(g))));                                          // (B, T, H)
  Var drive = unsqueeze(unsqueeze(dt, -1) * u, -1) * unsqueeze(of_heads(parts[1]), 3);  // (B, T, H, P, N)
  Var h = linear_scan(unsqueeze(unsqueeze(decay, -1), -1), drive, 1);
  Var y = sum(h * unsqueeze(of_heads(parts[2]), 3), {-1}) + u * unsqueeze(D.in(g), -1);
  return out_proj(norm(reshape(y, {B, T, E}) * silu(in[0])));
}

MambaBlock::MambaBlock(Module& parent, const std::string& name, const MambaConfig& c)
    : Module(parent, name), norm(*this, "norm", c.hidden_size, models::norm(c)) {
  if (c.heads) mixer2.emplace(*this, "mixer", c);
  else mixer.emplace(*this, "mixer", c);
}

Var MambaBlock::operator()(Var x) const {
  nn::ModuleScope here(*this, x);
  return x + (mixer ? (*mixer)(norm(x)) : (*mixer2)(norm(x)));
}

Mamba::Mamba(const MambaConfig& c)
    : embeddings(*this, "backbone.embeddings", c.vocab_size, c.hidden_size, Init::normal(c.initializer_range)),
      layers(*this, "backbone.layers", c.layers, c),
      norm_f(*this, "backbone.norm_f", c.hidden_size, models::norm(c)),
      lm_head(c.tied ? nullptr
                     : &parameter("lm_head.weight", {c.vocab_size, c.hidden_size}, Init::normal(c.initializer_range))) {
}

std::vector<Var> Mamba::encode(Var words) const {
  std::vector<Var> states;
  Var x = words;
  for (const MambaBlock& block : layers) {
    states.push_back(x = block(x));
  }
  states.push_back(norm_f(x));
  return states;
}

Var Mamba::logits(Var hidden) const {
  return linear(hidden, (lm_head ? *lm_head : embeddings.weight).in(hidden.graph()));
}

}  // namespace whence::models
