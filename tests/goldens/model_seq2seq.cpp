// Encoder-decoder models and sound.
#include "whence/models/bart.h"
#include "whence/models/t5.h"
#include "whence/models/wav2vec2.h"
#include "whence/models/whisper.h"
#include "tests/goldens/models.h"

namespace whence::goldens {

namespace {

// `encoder` and `decoder`: what goes into each layer, and the outputs.
ModelOutputs both_sides(const std::vector<Var>& encoder, const std::vector<Var>& decoder) {
  ModelOutputs out;
  auto note = [&](const char* stack, const std::vector<Var>& hidden) {
    for (size_t i = 0; i < hidden.size(); ++i)
      out.others[std::string(stack) + "_hidden_states." + std::to_string(i)] = hidden[i];
  };
  note("encoder", encoder);
  note("decoder", decoder);
  out.others["encoder_last_hidden_state"] = encoder.back();
  out.last = decoder.back();
  return out;
}

template <class Model> ModelOutputs run_text(const Model& m, const ModelInputs& in) {
  std::vector<Var> encoder = m.encode(in.ids, in.mask);
  ModelOutputs out = both_sides(encoder, m.decode(in.decoder_ids, encoder.back(), in.mask));
  out.logits = m.logits(out.last);
  return out;
}

}  // namespace

GoldenModel bart(const File& file) {
  return golden(std::make_unique<models::Bart>(models::BartConfig::from_json(file.meta("config"))),
                run_text<models::Bart>);
}

GoldenModel t5(const File& file) {
  auto c = models::T5Config::from_json(file.meta("config"));
  c.tied = tied(file, "lm_head.weight");
  return golden(std::make_unique<models::T5>(c), run_text<models::T5>);
}

GoldenModel whisper(const File& file) {
  return golden(std::make_unique<models::Whisper>(models::WhisperConfig::from_json(file.meta("config"))),
                [](const models::Whisper& m, const ModelInputs& in) {
                  std::vector<Var> encoder = m.encode(in.features);
                  Var words = m.embed_tokens(in.decoder_ids);
                  ModelOutputs out = both_sides(encoder, m.decode(words, encoder.back()));
                  out.embeds = words;
                  out.logits = m.logits(out.last);
                  return out;
                });
}

GoldenModel wav2vec2(const File& file) {
  return golden(std::make_unique<models::Wav2Vec2ForCTC>(models::Wav2Vec2Config::from_json(file.meta("config"))),
                [](const models::Wav2Vec2ForCTC& m, const ModelInputs& in) {
                  ModelOutputs out;
                  out.hidden = m.encode(in.wave);
                  out.last = out.hidden.back();
                  out.logits = m.logits(out.last);
                  out.loss = m.loss(out.logits, in.labels);
                  return out;
                });
}

}  // namespace whence::goldens
