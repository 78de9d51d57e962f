#include "whence/nn/data/subword.h"

#include <algorithm>

#include "whence/nn/data/subword/impl.h"
#include "whence/nn/io/atomic_file.h"
#include "whence/tensor/error.h"

namespace whence {
namespace subword {
namespace {

bool is_word(char32_t c) {  // \w, but for digits of other scripts
  return c == '_' || (c >= '0' && c <= '9') || c == 0x200c || c == 0x200d || unicode::in(unicode::letters, c) ||
         unicode::in(unicode::marks, c);
}
bool is_blank(char32_t c) { return unicode::in(unicode::blanks, c); }

size_t before(std::string_view text, size_t at) {  // where the character begins that ends at `at`
  do --at;
  while (at > 0 && (uint8_t(text[at]) & 0xc0) == 0x80);
  return at;
}
char32_t character(std::string_view text, size_t at) { return unicode::next(text, at); }

}  // namespace

void AddedTokens::add(AddedToken token) {
  if (token.content.empty()) return;
  begins_[uint8_t(token.content[0])] = true;
  auto shorter = [&](const AddedToken& t) { return t.content.size() < token.content.size(); };
  tokens_.insert(std::find_if(tokens_.begin(), tokens_.end(), shorter), std::move(token));
}

const AddedToken* AddedTokens::at(std::string_view text, size_t begin) const {
  if (!begins_[uint8_t(text[begin])]) return nullptr;
  for (const AddedToken& token : tokens_)
    if (text.substr(begin).starts_with(token.content)) return &token;
  return nullptr;
}

std::vector<std::pair<AlignedText, int32_t>> AddedTokens::split(AlignedText text) const {
  std::vector<std::pair<AlignedText, int32_t>> out;
  std::string_view s = text.bytes;
  size_t done = 0;
  auto cut = [&](size_t end, int32_t id) {
    if (done < end) out.emplace_back(text.slice(done, end), id);
    done = end;
  };
  for (size_t at = 0; at < s.size();) {
    const AddedToken* token = this->at(s, at);
    if (!token) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + token->content.size();
    at = end;
    if (token->single_word &&
        ((begin && is_word(character(s, before(s, begin)))) || (end < s.size() && is_word(character(s, end)))))
      continue;
    if (token->lstrip)
      while (begin > done && is_blank(character(s, before(s, begin)))) begin = before(s, begin);
    if (token->rstrip)
      while (end < s.size() && is_blank(character(s, end))) unicode::next(s, end);
    cut(std::max(begin, done), -1);
    cut(end, token->id);
  }
  if (out.empty() && !s.empty()) out.emplace_back(std::move(text), -1);
  else cut(s.size(), -1);
  return out;
}

namespace {

using Cache = std::unordered_map<std::string, std::vector<ModelToken>>;

std::vector<AlignedText> cut(const std::vector<PreTokenizer>& steps, AlignedText text) {
  std::vector<AlignedText> pieces;
  pieces.push_back(std::move(text));
  for (const PreTokenizer& step : steps) {
    std::vector<AlignedText> finer;
    for (AlignedText& piece : pieces)
      for (AlignedText& part : step(std::move(piece))) finer.push_back(std::move(part));
    pieces = std::move(finer);
  }
  return pieces;
}

// Byte offsets of the code points of a text, and of its end.
std::vector<int64_t> starts_of(std::string_view text) {
  std::vector<int64_t> out;
  for (size_t at = 0; at < text.size(); unicode::next(text, at)) out.push_back(int64_t(at));
  out.push_back(int64_t(text.size()));
  return out;
}

}  // namespace
}  // namespace subword

using namespace subword;

Encoding SubwordTokenizer::Impl::encode(std::string_view text, int32_t sequence) const {
  AlignedText whole = AlignedText::of(text);
  std::vector<uint32_t> code_point(text.size() + 1);  // of each byte
  for (size_t i = 0; i < text.size(); ++i) code_point[i + 1] = code_point[i] + ((uint8_t(text[i]) & 0xc0) != 0x80);
  Encoding out;
  auto push = [&](int32_t id, std::string token, Range range) {
    out.ids.push_back(id);
    out.tokens.push_back(std::move(token));
    // code_point[i] counts the characters that begin before byte i
    out.offsets.emplace_back(code_point[range.begin], code_point[range.end]);
  };
  Cache cache;
  auto tokenize = [&](const AlignedText& piece) {
    std::vector<ModelToken> fresh;
    const std::vector<ModelToken>* tokens = &fresh;
    if (piece.bytes.size() <= 64) {
      auto [at, is_new] = cache.try_emplace(piece.bytes);
      if (is_new) at->second = model->tokens(piece.bytes);
      tokens = &at->second;
    } else {
      fresh = model->tokens(piece.bytes);
    }
    for (const ModelToken& t : *tokens) push(t.id, *vocabulary->token(t.id), piece.range(t.begin, t.end));
  };
  for (auto& [part, part_id] : plain.split(std::move(whole))) {
    if (part_id >= 0) {
      push(part_id, part.bytes, part.range(0, part.bytes.size()));
      continue;
    }
    for (const Normalizer& normalize : normalizers) normalize(part);
    for (auto& [piece, id] : normalized.split(std::move(part))) {
      if (id >= 0) push(id, piece.bytes, piece.range(0, piece.bytes.size()));
      else
        for (const AlignedText& word : cut(pre_tokenizers, std::move(piece))) tokenize(word);
    }
  }
  out.type_ids.assign(out.size(), sequence);
  out.sequence_ids.assign(out.size(), sequence);
  out.special_tokens_mask.assign(out.size(), 0);
  return out;
}

Encoding SubwordTokenizer::Impl::finish(std::vector<Encoding> texts, std::span<const std::string_view> originals,
                                        bool special) const {
  for (const PostProcessor& process : post_processors) process(texts, special);
  Encoding out = joined(std::move(texts));
  std::vector<std::vector<int64_t>> starts;
  for (std::string_view text : originals) starts.push_back(starts_of(text));
  out.byte_offsets.resize(out.size());
  for (size_t i = 0; i < out.size(); ++i) {
    if (out.sequence_ids[i] < 0) continue;
    const auto& start = starts[size_t(out.sequence_ids[i])];
    out.byte_offsets[i] = {start[size_t(out.offsets[i].first)], start[size_t(out.offsets[i].second)]};
  }
  return out;
}

Encoding SubwordTokenizer::encode(std::string_view text, bool add_special_tokens) const {
  std::vector<Encoding> one;
  one.push_back(impl_->encode(text, 0));
  return impl_->finish(std::move(one), {{text}}, add_special_tokens);
}

Encoding SubwordTokenizer::encode_pair(std::string_view first, std::string_view second, bool add_special_tokens) const {
  std::vector<Encoding> two;
  two.push_back(impl_->encode(first, 0));
  two.push_back(impl_->encode(second, 1));
  return impl_->finish(std::move(two), {{first, second}}, add_special_tokens);
}

std::string SubwordTokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  for (int32_t id : ids) {
    const std::string& own = token(id);
    if (skip_special_tokens && impl_->special.count(id)) continue;
    auto spelled = impl_->spelled.find(id);
    tokens.push_back(spelled == impl_->spelled.end() ? own : spelled->second);
  }
  for (const Decoder& step : impl_->decoders) step(tokens);
  std::string out;
  for (size_t i = 0; i < tokens.size(); ++i) out += (i && impl_->join_with_blanks ? " " : "") + tokens[i];
  return out;
}

int64_t SubwordTokenizer::vocabulary() const { return int64_t(impl_->vocabulary->largest_id()) + 1; }
bool SubwordTokenizer::has(std::string_view token) const { return impl_->vocabulary->id(token) >= 0; }

int32_t SubwordTokenizer::id(std::string_view token) const {
  int32_t id = impl_->vocabulary->id(token);
  if (id < 0) throw ValueError(impl_->name + ": there is no token '" + std::string(token) + "'");
  return id;
}

const std::string& SubwordTokenizer::token(int32_t id) const {
  if (const std::string* token = impl_->vocabulary->token(id)) return *token;
  throw ValueError(impl_->name + ": no token has the id " + std::to_string(id) + "; ids go up to " +
                   std::to_string(vocabulary() - 1));
}

const std::string& SubwordTokenizer::json() const {
  if (impl_->json.empty())
    throw ValueError(impl_->name + ": a tokenizer of llama2.c has no tokenizer.json: its merges go by score");
  return impl_->json;
}

void SubwordTokenizer::save(const std::string& path) const { write_file_atomically(path, json()); }

}  // namespace whence
