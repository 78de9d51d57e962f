#include "whence/models/barcode.h"

#include <algorithm>
#include <cmath>

#include "whence/autograd/plan.h"

namespace whence::models {

// BERT's 0.02 is made for a width of 768. In a narrow encoder it leaves attention flat and the blocks silent against
// their skips, and masked prediction rests on the most common k-mers for long; at 1/sqrt(width) every layer keeps the
// scale.
static BertConfig bert(const BarcodeConfig& c, int64_t hidden, int64_t layers, int64_t heads) {
  return {.vocab_size = c.vocab(),
          .hidden_size = hidden,
          .layers = layers,
          .heads = heads,
          .intermediate_size = 4 * hidden,
          .max_positions = std::max<int64_t>(512, 1536 / c.k),
          .dropout = c.dropout,
          .padding_idx = -1,
          .dense_range = 1 / std::sqrt(double(hidden))};
}

// The vectors that enter an encoder: words that begin in one token are summed. [B, T, C] or [B, T, W, C] -> [B, T, C]
static Var token_vectors(Var words) { return words.rank() == 4 ? sum(words, {2}) : words; }

static Var encoded(const BertModel& encoder, Var words, const BertInputs& in) {
  return encoder.encode(encoder.embeddings.embed(token_vectors(words), in), in).back();
}

// Square roots of frequencies have length one; their entries are brought near one, as a linear map wants them.
static Var scaled_spectrum(const BarcodeConfig& c, Var spectrum) {
  return spectrum * std::sqrt(double(c.spectrum_words()));
}

BertConfig BarcodeConfig::encoder() const { return bert(*this, hidden, layers, heads); }
BertConfig BarcodeConfig::decoder() const { return bert(*this, decoder_hidden, decoder_layers, decoder_heads); }

// ---- BarcodeBERT --------------------------------------------------------------------------------------------------

BarcodeBert::BarcodeBert(const BarcodeConfig& c)
    : config(c),
      encoder(*this, "encoder", c.encoder()),
      predictor(*this, "predictor", c.hidden, c.classes(), true, nn::Init::normal(0.02)) {}

Var BarcodeBert::loss(Var ids, Var labels, const BertInputs& in) const {
  return cross_entropy(predictor(encoder(ids, in)), labels);
}

// ---- BarcodeMAE ---------------------------------------------------------------------------------------------------

PackedTokens pack(const Tensor& ids, const Tensor& seen, std::span<const uint8_t> hidden, int64_t width,
                  bool label_visible) {
  int64_t B = ids.size(0), T = ids.size(1), W = ids.rank() == 3 ? ids.size(2) : 1;
  if (int64_t(hidden.size()) != B * T || !(seen.shape() == Shape{B, T}))
    throw ShapeError("pack: ids " + ids.shape().str() + ", attention mask " + seen.shape().str() + ", " +
                     std::to_string(hidden.size()) + " marks");
  const int32_t* id = ids.data<int32_t>();
  const uint8_t* live = seen.data<uint8_t>();
  auto visible = [&](int64_t i) { return live[i] && !hidden[size_t(i)]; };
  int64_t widest = 1;
  for (int64_t b = 0; b < B; ++b) {
    int64_t n = 0;
    for (int64_t t = 0; t < T; ++t) n += visible(b * T + t);
    widest = std::max(widest, n);
  }
  int64_t P = width ? width : widest;
  if (widest > P)
    throw ShapeError("pack: " + std::to_string(widest) + " visible tokens do not fit a width of " + std::to_string(P));
  PackedTokens out{Tensor::full(ids.rank() == 3 ? Shape{B, P, W} : Shape{B, P}, 1, i32), Tensor::zeros({B, P}, i32),
                   Tensor::zeros({B, P}, u8), Tensor::empty({B * T}, i32), Tensor::full({B, T}, -100, i32)};
  for (int64_t b = 0; b < B; ++b) {
    int64_t at = 0;
    for (int64_t t = 0; t < T; ++t) {
      int64_t i = b * T + t;
      out.restore.data<int32_t>()[i] = int32_t(b * (P + 1) + P);
      if (visible(i)) {
        int64_t p = b * P + at;
        const bool next_hidden = t + 1 < T && hidden[size_t(i + 1)];
        for (int64_t w = 0; w < (next_hidden ? 1 : W); ++w) out.ids.data<int32_t>()[p * W + w] = id[i * W + w];
        out.positions.data<int32_t>()[p] = int32_t(t);
        out.mask.data<uint8_t>()[p] = 1;
        out.restore.data<int32_t>()[i] = int32_t(b * (P + 1) + at++);
      }
      if (live[i] && id[i * W] >= 2 && (hidden[size_t(i)] || label_visible))
        out.labels.data<int32_t>()[i] = id[i * W] - 2;
    }
  }
  return out;
}

BarcodeMae::BarcodeMae(const BarcodeConfig& c)
    : config(c),
      encoder(*this, "encoder", c.encoder()),
      bridge(*this, "bridge", c.hidden, c.decoder_hidden, true, nn::Init::normal(1 / std::sqrt(double(c.hidden)))),
      decoder(*this, "decoder", c.decoder()),
      predictor(*this, "predictor", c.decoder_hidden, c.classes(), true,
                nn::Init::normal(1 / std::sqrt(double(c.decoder_hidden)))) {
  if (c.spectrum) spectrum.emplace(*this, "spectrum", c.hidden, c.spectrum_words());
}

Var BarcodeMae::loss(Var ids, Var positions, Var mask, Var restore, Var labels, Var decoder_mask, Var target) const {
  Graph& g = ids.graph();
  int64_t B = ids.size(0), P = ids.size(1), T = labels.size(1), C = config.decoder_hidden;
  Var seen = encoded(encoder, encoder.embeddings.word(ids), {.positions = positions, .token_types = {}, .mask = mask});
  Var visible = bridge(seen);                                                                  // (B, P, C)
  Var hidden = broadcast_to(slice(decoder.embeddings.word.weight.in(g), 0, 0, 1), {B, 1, C});  // the [MASK] row
  Var rows = reshape(concat({visible, hidden}, 1), {B * (P + 1), C});
  Var all = reshape(gather(rows, restore, 0), {B, T, C});  // every place again
  BertInputs in{.positions = {}, .token_types = {}, .mask = decoder_mask};
  Var loss = cross_entropy(predictor(decoder.encode(decoder.embeddings.embed(all, in), in).back()), labels);
  if (!spectrum) return loss;
  Var error = mse_loss((*spectrum)(masked_mean(seen, mask)), scaled_spectrum(config, target));
  return loss * config.token_weight + error * config.spectrum_weight;
}

// ---- classifier ---------------------------------------------------------------------------------------------------

BarcodeClassifier::BarcodeClassifier(const BarcodeConfig& c, int64_t classes)
    : config(c),
      encoder(*this, "encoder", c.encoder()),
      norm(*this, "norm", c.hidden),
      head(*this, "head", c.hidden, classes) {
  if (!c.spectrum) return;
  wide.emplace(*this, "wide", c.spectrum_words(), classes, false, nn::Init::zeros());
  spectrum_mean = &buffer("spectrum_mean", {c.spectrum_words()}, nn::Init::zeros());
  if (!c.memory) return;
  memory = &buffer("memory", {c.memory, c.spectrum_words()}, nn::Init::zeros());
  memory_class = &buffer("memory_class", {c.memory}, nn::Init::zeros());
}

// x / |x|, the length held constant by the relevance rule of the norm.
static Var of_length_one(Var x) { return rms_norm(x, {}, 1e-12) / std::sqrt(double(x.size(-1))); }

void BarcodeClassifier::remember(const Tensor& spectra, std::span<const int64_t> classes) {
  if (!wide || spectra.size(0) != int64_t(classes.size()) || (memory && spectra.size(0) != config.memory))
    throw ShapeError("remember: spectra " + spectra.shape().str() + " of " + std::to_string(classes.size()) +
                     " sequences, for a memory of " + std::to_string(config.memory));
  Graph g;
  Var s = g.constant(spectra), average = mean(s, {0});
  Results out = evaluate({average, of_length_one(s - average)});
  spectrum_mean->tensor().copy_from(out[0]);
  if (!memory) return;
  memory->tensor().copy_from(out[1]);
  for (size_t i = 0; i < classes.size(); ++i) memory_class->tensor().data<float>()[i] = float(classes[i]);
}

Var BarcodeClassifier::nearest(Var centred) const {
  Graph& g = centred.graph();
  Var cosine = linear(of_length_one(centred), memory->in(g));  // (B, n)
  // Members side by side, (classes, widest); places without one point at a column of -1 behind the others.
  const int64_t B = centred.size(0), classes = head.weight.shape()[0];
  std::vector<std::vector<int32_t>> members(static_cast<size_t>(classes));
  size_t widest = 1;
  for (int64_t i = 0; i < config.memory; ++i) {
    auto& own = members[size_t(memory_class->tensor().item(i))];
    own.push_back(int32_t(i));
    widest = std::max(widest, own.size());
  }
  Tensor place = Tensor::full({classes * int64_t(widest)}, double(config.memory), i32);
  for (size_t c = 0; c < members.size(); ++c)
    std::copy(members[c].begin(), members[c].end(), place.data<int32_t>() + c * widest);
  Var none = g.constant(Tensor::full({B, 1}, -1));
  Var all = gather(concat({cosine, none}, 1), g.constant(place), 1);
  return max(reshape(all, {B, classes, int64_t(widest)}), {2});
}

Var BarcodeClassifier::words(Var ids) const { return encoder.embeddings.word(ids); }

Var BarcodeClassifier::embed(Var words, Var mask) const {
  return masked_mean(encoded(encoder, words, {.positions = {}, .token_types = {}, .mask = mask}), mask);
}

Var BarcodeClassifier::classify(Var embedded, Var spectrum) const {
  Var scores = head(norm(embedded));
  if (!wide) return scores;
  Var centred = spectrum - spectrum_mean->in(spectrum.graph());
  scores = scores + (*wide)(scaled_spectrum(config, centred));
  return memory && !spectrum.graph().training() ? scores + nearest(centred) * 20.0 : scores;
}

Var BarcodeClassifier::operator()(Var ids, Var mask, Var spectrum) const {
  return classify(embed(words(ids), mask), spectrum);
}

void load_encoder(nn::Module& m, const std::map<std::string, Tensor>& state) {
  std::map<std::string, Tensor> encoder;
  for (auto& [name, t] : state)
    if (name.starts_with("encoder.")) encoder[name] = t;
  if (encoder.empty()) throw ValueError("the file holds no encoder.* weights");
  for (auto& [name, t] : m.state_dict())
    if (name.starts_with("encoder.") && !encoder.contains(name)) throw ValueError("the file lacks " + name);
  m.load_state_dict(encoder, false);
}

}  // namespace whence::models
