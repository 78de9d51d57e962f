#include "whence/models/whisper.h"

#include <cmath>

#include "whence/models/config.h"

namespace whence::models {

using nn::Init;

WhisperConfig::WhisperConfig() {
  for (Seq2SeqConfig* side : {&encoder, &decoder}) {
    side->norm_first = true;
    side->k_bias = false;
    side->dropout = 0;
  }
}

WhisperConfig WhisperConfig::from_json(std::string_view text) {
  ConfigJson json(text);
  if (json.value("scale_embedding", false))
    throw ValueError("configuration: a Whisper with scaled embeddings is not known");
  const BartConfig sides = BartConfig::from_json(text);  // the same keys
  WhisperConfig c;
  for (auto [side, read] : {std::pair(&c.encoder, &sides.encoder), std::pair(&c.decoder, &sides.decoder)}) {
    side->hidden_size = read->hidden_size;
    side->layers = read->layers;
    side->heads = read->heads;
    side->intermediate_size = read->intermediate_size;
    side->activation = read->activation;
    side->init_std = read->init_std;
    side->dropout = read->dropout;
  }
  json.read("vocab_size", c.vocab_size);
  json.read("num_mel_bins", c.mel_bins);
  json.read("pad_token_id", c.padding_idx);
  json.read("max_source_positions", c.max_source_positions);
  json.read("max_target_positions", c.max_target_positions);
  json.read("tie_word_embeddings", c.tied);
  return c;
}

namespace {

// Sines and cosines of positions, wavelengths from 2 pi to 20000 pi: [length, channels].
Init sinusoids(int64_t length, int64_t channels) {
  Tensor t = Tensor::zeros({length, channels}, f64);
  const int64_t half = channels / 2;
  for (int64_t i = 0; i < length; ++i)
    for (int64_t j = 0; j < half; ++j) {
      const double angle = double(i) * std::exp(-std::log(1e4) * double(j) / double(std::max<int64_t>(half - 1, 1)));
      t.data<double>()[i * channels + j] = std::sin(angle);
      t.data<double>()[i * channels + half + j] = std::cos(angle);
    }
  return Init::values(t);
}

}  // namespace

Whisper::Whisper(const WhisperConfig& c)
    : conv1(*this, "model.encoder.conv1", c.mel_bins, c.encoder.hidden_size, {3}, {.padding = {1}}),
      conv2(*this, "model.encoder.conv2", c.encoder.hidden_size, c.encoder.hidden_size, {3},
            {.stride = {2}, .padding = {1}}),
      encoder_positions(parameter("model.encoder.embed_positions.weight",
                                  {c.max_source_positions, c.encoder.hidden_size},
                                  sinusoids(c.max_source_positions, c.encoder.hidden_size))),
      embed_tokens(*this, "model.decoder.embed_tokens", c.vocab_size, c.decoder.hidden_size,
                   Init::normal(c.decoder.init_std), c.padding_idx),
      decoder_positions(parameter("model.decoder.embed_positions.weight",
                                  {c.max_target_positions, c.decoder.hidden_size}, Init::normal(c.decoder.init_std))),
      encoder(*this, "model.encoder", c.encoder),
      decoder(*this, "model.decoder", c.decoder),
      proj_out(c.tied ? nullptr
                      : &parameter("proj_out.weight", {c.vocab_size, c.decoder.hidden_size},
                                   Init::normal(c.decoder.init_std))) {
  encoder_positions.set_trainable(false);  // sinusoids, which HuggingFace does not train
}

std::vector<Var> Whisper::encode(Var features) const {
  Var x = transpose(gelu(conv2(gelu(conv1(features)))));  // (B, S, C)
  if (x.size(1) != encoder_positions.shape()[0])
    throw ShapeError("Whisper takes " + std::to_string(2 * encoder_positions.shape()[0]) + " frames of features, got " +
                     std::to_string(features.size(2)));
  return encoder(x + encoder_positions.in(x.graph()));
}

std::vector<Var> Whisper::decode(Var words, Var memory) const {
  Graph& g = words.graph();
  return decoder(words + slice(decoder_positions.in(g), 0, 0, words.size(1)), memory);
}

Var Whisper::logits(Var hidden) const {
  return linear(hidden, (proj_out ? *proj_out : embed_tokens.weight).in(hidden.graph()));
}

}  // namespace whence::models
