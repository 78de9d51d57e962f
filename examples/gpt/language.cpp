#include "language.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "whence/nn/checkpoint.h"
#include "whence/nn/data/text.h"

namespace gpt {

using namespace whence;
using nlohmann::json;

Vocabulary Vocabulary::characters(const std::string& text) {
  Vocabulary v;
  v.characters_ = CharTokenizer::from_text(text);
  return v;
}

Vocabulary Vocabulary::pairs(const std::string& text, int64_t size) {
  Vocabulary v;
  v.pairs_ = SubwordTokenizer::learn_bpe(text, {.vocabulary = size, .specials = {}});
  return v;
}

Vocabulary Vocabulary::parse(const std::string& saved) {
  Vocabulary v;
  json document = json::parse(saved);
  if (document.is_array()) v.characters_.emplace(std::vector<std::string>(), document.get<std::vector<std::string>>());
  else v.pairs_ = SubwordTokenizer::parse(saved, "the model's vocabulary");
  return v;
}

std::string Vocabulary::str() const { return characters_ ? json(characters_->words()).dump() : pairs_->json(); }
int64_t Vocabulary::size() const { return characters_ ? characters_->vocabulary() : pairs_->vocabulary(); }

std::vector<int32_t> Vocabulary::encode(const std::string& text) const {
  return characters_ ? characters_->encode(text) : pairs_->encode(text).ids;
}

std::string Vocabulary::decode(const std::vector<int32_t>& ids) const {
  return characters_ ? characters_->decode(ids) : pairs_->decode(ids);
}

std::string Vocabulary::shown(int32_t id) const {
  std::string out;
  for (char c : decode({id})) out += c == '\n' ? "↵" : c == '\t' ? "→" : std::string(1, c);
  return out;
}

int32_t Vocabulary::blank() const {
  if (pairs_) return pairs_->encode(" ").ids.at(0);
  auto at = std::find(characters_->words().begin(), characters_->words().end(), " ");
  return at == characters_->words().end() ? -1 : int32_t(at - characters_->words().begin());
}

// ---- files ----------------------------------------------------------------------------------------------------------

void save(const std::string& path, const Language& language) {
  const models::Gpt2Config& c = language.model->config;
  json config{{"context", c.max_positions}, {"hidden", c.hidden_size}, {"layers", c.layers}, {"heads", c.heads}};
  save_checkpoint(path, language.model->state_dict(),
                  {{"format", "whence.gpt"}, {"config", config.dump()}, {"vocabulary", language.vocabulary.str()}});
}

Language load(const std::string& path) {
  Checkpoint file = load_checkpoint(path);
  if (file.metadata["format"] != "whence.gpt")
    throw ValueError(path + " was not written by this program's train: its format is '" + file.metadata["format"] +
                     "'");
  json config = json::parse(file.metadata.at("config"));
  Language out{Vocabulary::parse(file.metadata.at("vocabulary")), nullptr};
  out.model = std::make_unique<models::Gpt2>(models::Gpt2Config{.vocab_size = out.vocabulary.size(),
                                                                .max_positions = config.at("context"),
                                                                .hidden_size = config.at("hidden"),
                                                                .layers = config.at("layers"),
                                                                .heads = config.at("heads"),
                                                                .dropout = 0});
  out.model->load_state_dict(file.tensors);
  return out;
}

}  // namespace gpt
