// tokenizer.json: each of its objects becomes a step of nn/data/subword.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "whence/nn/data/subword/impl.h"
#include "whence/nn/data/text.h"
#include "whence/nn/io/file.h"
#include "whence/tensor/error.h"

namespace whence {
namespace subword {
namespace {

// A value in the file that knows where it stands, so that every complaint names file and field.
class Field {
 public:
  using Json = nlohmann::json;
  Field(const Json& value, std::string file, std::string path = "")
      : value_(&value), file_(std::move(file)), path_(std::move(path)) {}

  [[noreturn]] void refuse(const std::string& why) const {
    throw IoError(file_ + ": not a tokenizer.json that is read here: " + (path_.empty() ? "" : path_ + ": ") + why);
  }
  const Json& json() const { return *value_; }
  bool null() const { return value_->is_null(); }
  /// A member, null where it is absent.
  Field operator[](const std::string& key) const {
    static const Json none;
    if (!value_->is_object()) refuse("an object is wanted");
    auto at = value_->find(key);
    return Field(at == value_->end() ? none : *at, file_, path_.empty() ? key : path_ + "." + key);
  }
  std::vector<Field> items() const {
    if (!value_->is_array()) refuse("a list is wanted");
    std::vector<Field> out;
    for (size_t i = 0; i < value_->size(); ++i)
      out.emplace_back((*value_)[i], file_, path_ + "[" + std::to_string(i) + "]");
    return out;
  }
  const std::string& text() const {
    if (!value_->is_string()) refuse(null() ? "it is absent" : "a text is wanted");
    return value_->get_ref<const std::string&>();
  }
  std::string text(const std::string& otherwise) const { return null() ? otherwise : text(); }
  bool flag(bool otherwise) const {
    if (null()) return otherwise;
    if (!value_->is_boolean()) refuse("true or false is wanted");
    return value_->get<bool>();
  }
  bool flag() const {
    if (null()) refuse("it is absent");
    return flag(false);
  }
  int64_t number(int64_t least, int64_t most) const {
    if (!value_->is_number_integer()) refuse(null() ? "it is absent" : "a whole number is wanted");
    bool fits = !value_->is_number_unsigned() || value_->get<uint64_t>() <= uint64_t(INT64_MAX);
    int64_t n = fits ? value_->get<int64_t>() : 0;
    if (!fits || n < least || n > most)
      refuse("the number " + value_->dump() + " lies outside " + std::to_string(least) + ".." + std::to_string(most));
    return n;
  }
  int32_t id() const { return int32_t(number(0, INT32_MAX - 1)); }

 private:
  const Json* value_;
  std::string file_, path_;
};

constexpr int kDeepest = 8;  // sequences of sequences

// `one(step)` for a step, for each step of a Sequence in order, and not for null. `list` names its member.
template <class One> void each_step(const Field& step, const char* list, One&& one, int depth = 0) {
  if (step.null()) return;
  if (depth > kDeepest) step.refuse("sequences are nested too deeply");
  if (step["type"].text() != "Sequence") return one(step, step["type"].text());
  for (const Field& part : step[list].items()) each_step(part, list, one, depth + 1);
}

[[noreturn]] void unknown(const Field& step, const std::string& type, const char* known) {
  step["type"].refuse("'" + type + "' is none of " + known);
}

char32_t one_character(const Field& field) {
  std::vector<char32_t> characters = decode_utf8(field.text());
  if (characters.size() != 1) field.refuse("one character is wanted");
  return characters[0];
}

std::string pattern_of(const Field& step) {
  if (step["pattern"]["String"].null()) step["pattern"].refuse("only {\"String\": ..} is read");
  return step["pattern"]["String"].text();
}

Prepend prepend_scheme(const Field& step) {
  std::string scheme = step["prepend_scheme"].text(step["add_prefix_space"].flag(true) ? "always" : "never");
  if (scheme == "first") return Prepend::first;
  if (scheme == "never") return Prepend::never;
  if (scheme != "always") step["prepend_scheme"].refuse("'" + scheme + "' is none of first, never, always");
  return Prepend::always;
}

Normalizer normalizer_of(const Field& step, const std::string& type) {
  if (type == "BertNormalizer") {
    BertOptions options{.clean_text = step["clean_text"].flag(),
                        .handle_chinese_chars = step["handle_chinese_chars"].flag(),
                        .strip_accents = {},
                        .lowercase = step["lowercase"].flag()};
    if (!step["strip_accents"].null()) options.strip_accents = step["strip_accents"].flag();
    return bert_normalizer(options);
  }
  if (type == "Lowercase") return lowercase_normalizer();
  if (type == "Prepend") return prepend_normalizer(step["prepend"].text());
  if (type == "Replace") return replace_normalizer(pattern_of(step), step["content"].text());
  unknown(step, type, "BertNormalizer, Lowercase, Prepend, Replace, Sequence");
}

PreTokenizer pre_tokenizer_of(const Field& step, const std::string& type) {
  if (type == "ByteLevel") return byte_level(step["add_prefix_space"].flag(), step["use_regex"].flag(true));
  if (type == "Metaspace")
    return metaspace(one_character(step["replacement"]), prepend_scheme(step), step["split"].flag(true));
  if (type == "BertPreTokenizer") return bert_pre_tokenizer();
  unknown(step, type, "ByteLevel, Metaspace, BertPreTokenizer, Sequence");
}

std::vector<TemplatePiece> template_of(const Field& step, const char* which) {
  std::vector<TemplatePiece> out;
  for (const Field& piece : step[which].items()) {
    Field text = piece["Sequence"], token = piece["SpecialToken"];
    if (text.null() && token.null()) piece.refuse("neither Sequence nor SpecialToken");
    TemplatePiece& to = out.emplace_back();
    to.type_id = (text.null() ? token : text)["type_id"].id();
    if (text.null()) {
      Field special = step["special_tokens"][token["id"].text()];
      if (special.null()) token["id"].refuse("'" + token["id"].text() + "' is not among the special_tokens");
      for (const Field& id : special["ids"].items()) to.ids.push_back(id.id());
      for (const Field& content : special["tokens"].items()) to.tokens.push_back(content.text());
      if (to.ids.size() != to.tokens.size()) special.refuse("as many ids as tokens are wanted");
    } else {
      const std::string& id = text["id"].text();
      to.text = id == "A" ? 0 : id == "B" ? 1 : -1;
      if (to.text < 0 || (to.text == 1 && which == std::string("single"))) text["id"].refuse("no such text: " + id);
    }
  }
  return out;
}

TemplatePiece special_piece(const Field& pair, int32_t type_id) {
  std::vector<Field> parts = pair.items();
  if (parts.size() != 2) pair.refuse("a token and its id are wanted");
  return {.type_id = type_id, .ids = {parts[1].id()}, .tokens = {parts[0].text()}};
}

void add_post_processor(std::vector<PostProcessor>& to, const Field& step, const std::string& type) {
  if (type == "ByteLevel") {
    if (step["trim_offsets"].flag()) to.push_back(trim_offsets(step["add_prefix_space"].flag()));
  } else if (type == "TemplateProcessing") {
    to.push_back(template_processor(template_of(step, "single"), template_of(step, "pair")));
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    const bool bert = type == "BertProcessing";
    if (!bert && step["trim_offsets"].flag(true)) to.push_back(trim_offsets(step["add_prefix_space"].flag(true)));
    TemplatePiece first{.text = 0}, second{.text = 1, .type_id = bert};
    TemplatePiece cls = special_piece(step["cls"], 0), sep = special_piece(step["sep"], 0);
    TemplatePiece last = special_piece(step["sep"], bert);
    std::vector<TemplatePiece> pair{cls, first, sep, second, last};
    if (!bert) pair.insert(pair.begin() + 3, sep);  // </s></s> between two texts
    to.push_back(template_processor({cls, first, sep}, pair));
  } else {
    unknown(step, type, "ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing, Sequence");
  }
}

Decoder decoder_of(const Field& step, const std::string& type) {
  if (type == "ByteLevel") return byte_level_decoder();
  if (type == "WordPiece") return wordpiece_decoder(step["prefix"].text(), step["cleanup"].flag());
  if (type == "Metaspace")
    return metaspace_decoder(one_character(step["replacement"]), prepend_scheme(step) != Prepend::never);
  if (type == "Replace") return replace_decoder(pattern_of(step), step["content"].text());
  if (type == "ByteFallback") return byte_fallback_decoder();
  if (type == "Fuse") return fuse_decoder();
  if (type == "Strip")
    return strip_decoder(one_character(step["content"]), step["start"].number(0, INT32_MAX),
                         step["stop"].number(0, INT32_MAX));
  unknown(step, type, "ByteLevel, WordPiece, Metaspace, Replace, ByteFallback, Fuse, Strip, Sequence");
}

// ---- models ---------------------------------------------------------------------------------------------------------

void read_vocabulary(const Field& field, Vocabulary& to) {
  if (!field.json().is_object()) field.refuse("an object is wanted: token to id");
  for (const auto& [token, id] : field.json().items())
    if (!to.add(token, field[token].id())) field[token].refuse("the id " + id.dump() + " is taken by another token");
}

// ["a", "b"], or "a b" as older files have it.
std::pair<std::string, std::string> merge_of(const Field& field) {
  if (field.json().is_array()) {
    std::vector<Field> parts = field.items();
    if (parts.size() != 2) field.refuse("two tokens are wanted");
    return {parts[0].text(), parts[1].text()};
  }
  const std::string& both = field.text();
  size_t blank = both.find(' ');
  if (blank == both.npos || both.find(' ', blank + 1) != both.npos) field.refuse("two tokens are wanted");
  return {both.substr(0, blank), both.substr(blank + 1)};
}

std::unique_ptr<Model> bpe_of(const Field& model, std::shared_ptr<Vocabulary> vocabulary) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!model[key].text("").empty()) model[key].refuse("subwords with a mark are not read");
  if (const Field::Json& p = model["dropout"].json(); !p.is_null() && p != 0)
    model["dropout"].refuse("tokens that are drawn at random are not read");
  Merges merges;
  int32_t rank = 0;
  for (const Field& field : model["merges"].items()) {
    auto [left, right] = merge_of(field);
    auto id = [&](const std::string& token) {
      int32_t id = vocabulary->id(token);
      if (id < 0) field.refuse("'" + token + "' is not in the vocabulary");
      return id;
    };
    const uint64_t pair = pair_key(id(left), id(right));
    merges.insert_or_assign(pair, Merge{rank++, id(left + right)});
  }
  BpeOptions options{.fuse_unknown = model["fuse_unk"].flag(false),
                     .byte_fallback = model["byte_fallback"].flag(false),
                     .ignore_merges = model["ignore_merges"].flag(false)};
  if (!model["unk_token"].null()) {
    options.unknown = vocabulary->id(model["unk_token"].text());
    if (options.unknown < 0) model["unk_token"].refuse("it is not in the vocabulary");
  }
  return bpe_model(std::move(vocabulary), std::move(merges), options);
}

std::unique_ptr<Model> wordpiece_of(const Field& model, std::shared_ptr<Vocabulary> vocabulary) {
  WordPieceOptions options{.unknown = vocabulary->id(model["unk_token"].text()),
                           .prefix = model["continuing_subword_prefix"].text(),
                           .longest_word = size_t(model["max_input_chars_per_word"].number(0, INT32_MAX))};
  if (options.unknown < 0) model["unk_token"].refuse("it is not in the vocabulary");
  return wordpiece_model(std::move(vocabulary), std::move(options));
}

void add_token(SubwordTokenizer::Impl& to, const Field& field) {
  AddedToken token{.content = field["content"].text(),
                   .single_word = field["single_word"].flag(false),
                   .lstrip = field["lstrip"].flag(false),
                   .rstrip = field["rstrip"].flag(false),
                   .normalized = field["normalized"].flag(true)};
  if (token.content.empty()) return;
  token.id = to.vocabulary->id(token.content);
  if (token.id < 0) {
    token.id = field["id"].id();
    if (!to.vocabulary->add(token.content, token.id)) field["id"].refuse("it is taken by another token");
  }
  if (field["special"].flag(false)) to.special.insert(token.id);
  if (token.normalized) {
    AlignedText text = AlignedText::of(token.content);
    for (const Normalizer& normalize : to.normalizers) normalize(text);
    if (text.bytes != token.content) to.spelled[token.id] = text.bytes;
    token.content = text.bytes;
  }
  (token.normalized ? to.normalized : to.plain).add(token);
}

}  // namespace
}  // namespace subword

using namespace subword;

SubwordTokenizer SubwordTokenizer::parse(std::string_view json, const std::string& name) {
  Field::Json document = Field::Json::parse(json, nullptr, false);
  Field file(document, name);
  if (document.is_discarded()) file.refuse("it is no JSON");
  auto out = std::make_shared<Impl>();
  out->name = name;
  out->json = json;
  Field model = file["model"];
  read_vocabulary(model["vocab"], *out->vocabulary);
  // Files of before the field "type" are BPE where there are merges.
  std::string type = model["type"].text(model["merges"].null() ? "WordPiece" : "BPE");
  if (type == "BPE") out->model = bpe_of(model, out->vocabulary);
  else if (type == "WordPiece") out->model = wordpiece_of(model, out->vocabulary);
  else model["type"].refuse("'" + type + "' is none of BPE, WordPiece");

  each_step(file["normalizer"], "normalizers",
            [&](const Field& step, const std::string& type) { out->normalizers.push_back(normalizer_of(step, type)); });
  each_step(file["pre_tokenizer"], "pretokenizers", [&](const Field& step, const std::string& type) {
    out->pre_tokenizers.push_back(pre_tokenizer_of(step, type));
  });
  each_step(file["post_processor"], "processors",
            [&](const Field& step, const std::string& type) { add_post_processor(out->post_processors, step, type); });
  each_step(file["decoder"], "decoders",
            [&](const Field& step, const std::string& type) { out->decoders.push_back(decoder_of(step, type)); });
  out->join_with_blanks = file["decoder"].null();
  if (!file["added_tokens"].null())
    for (const Field& token : file["added_tokens"].items()) add_token(*out, token);
  return SubwordTokenizer(out);
}

SubwordTokenizer SubwordTokenizer::read(const std::string& path) { return parse(read_text(path), path); }

}  // namespace whence
