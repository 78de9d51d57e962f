#include "whence/nn/data/tokenizer.h"

#include <algorithm>
#include <set>

#include "whence/nn/data/text.h"

namespace whence {
namespace {

int base(char c) {
  switch (c) {
    case 'A': return 0;
    case 'C': return 1;
    case 'G': return 2;
    case 'T': return 3;
    default: return -1;
  }
}

void check_offset(int offset, int k) {
  if (offset < 0 || offset >= k)
    throw ValueError("KmerTokenizer: the offset must lie in 0.." + std::to_string(k - 1) + ", got " +
                     std::to_string(offset));
}

}  // namespace

KmerTokenizer::KmerTokenizer(KmerOptions options) : options_(options) {
  if (options.k < 1 || options.k > 12)
    throw ValueError("KmerTokenizer: k must lie in 1..12, got " + std::to_string(options.k));
  if (options.max_len < options.k)
    throw ValueError("KmerTokenizer: max_len " + std::to_string(options.max_len) + " is shorter than one " +
                     std::to_string(options.k) + "-mer");
}

int32_t KmerTokenizer::id_at(std::string_view letters, int64_t begin) const {
  if (begin + options_.k > int64_t(letters.size())) return kUnknown;
  int32_t word = 0;
  for (int64_t i = begin; i < begin + options_.k; ++i) {
    const int b = base(letters[size_t(i)]);
    if (b < 0) return kUnknown;
    word = word << 2 | b;
  }
  return kFirstWord + word;
}

void KmerTokenizer::encode_words(std::string_view sequence, int offset, int words, int32_t* ids, uint8_t* mask) const {
  check_offset(offset, options_.k);
  sequence.remove_prefix(std::min<size_t>(size_t(offset), sequence.size()));
  sequence = sequence.substr(0, size_t(options_.max_len));
  const int64_t k = options_.k;
  for (int64_t t = 0; t < length(); ++t) {
    for (int64_t j = 0; j < words; ++j) ids[t * words + j] = id_at(sequence, t * k + j);
    mask[t] = t < int64_t(sequence.size()) / k;
  }
}

void KmerTokenizer::encode_into(std::string_view sequence, int offset, int32_t* ids, uint8_t* mask) const {
  encode_words(sequence, offset, 1, ids, mask);
}

void KmerTokenizer::encode_overlapping_into(std::string_view sequence, int offset, int32_t* ids, uint8_t* mask) const {
  encode_words(sequence, offset, options_.k, ids, mask);
}

Tokens KmerTokenizer::encode(std::string_view sequence, int offset) const {
  Tokens out{std::vector<int32_t>(size_t(length())), std::vector<uint8_t>(size_t(length()))};
  encode_into(sequence, offset, out.ids.data(), out.mask.data());
  return out;
}

std::pair<Tensor, Tensor> KmerTokenizer::encode_batch(std::span<const std::string> sequences, int offset) const {
  int64_t n = int64_t(sequences.size());
  Tensor ids = Tensor::empty({n, length()}, i32), mask = Tensor::empty({n, length()}, u8);
  for (int64_t i = 0; i < n; ++i)
    encode_into(sequences[size_t(i)], offset, ids.data<int32_t>() + i * length(), mask.data<uint8_t>() + i * length());
  return {ids, mask};
}

std::string KmerTokenizer::word(int32_t id) const {
  if (id == kMask) return "[MASK]";
  if (id == kUnknown) return "[UNK]";
  if (id < 0 || id >= vocabulary())
    throw ValueError("KmerTokenizer: id " + std::to_string(id) + " is outside the vocabulary of " +
                     std::to_string(vocabulary()));
  std::string out(size_t(options_.k), 'A');
  int32_t w = id - kFirstWord;
  for (size_t i = out.size(); i-- > 0; w >>= 2) out[i] = "ACGT"[w & 3];
  return out;
}

std::pair<int64_t, int64_t> KmerTokenizer::nucleotides(int64_t position, int64_t sequence_length, int offset) const {
  check_offset(offset, options_.k);
  if (position < 0 || position >= length())
    throw ValueError("KmerTokenizer: token " + std::to_string(position) + " of " + std::to_string(length()));
  int64_t begin = offset + position * options_.k;
  return {std::min(begin, sequence_length), std::min(begin + options_.k, sequence_length)};
}

std::vector<float> KmerTokenizer::spread(std::span<const float> per_token, int64_t sequence_length, int offset) const {
  if (int64_t(per_token.size()) != length())
    throw ShapeError("KmerTokenizer: " + std::to_string(per_token.size()) + " scores for " + std::to_string(length()) +
                     " tokens");
  std::vector<float> out(size_t(std::max<int64_t>(sequence_length, 0)), 0.f);
  for (int64_t t = 0; t < length(); ++t) {
    auto [begin, end] = nucleotides(t, int64_t(out.size()), offset);
    for (int64_t i = begin; i < end; ++i) out[size_t(i)] = per_token[size_t(t)] / float(end - begin);
  }
  return out;
}

std::vector<double> KmerTokenizer::spread_overlapping(std::span<const float> per_word, int64_t sequence_length,
                                                      int offset) const {
  check_offset(offset, options_.k);
  if (int64_t(per_word.size()) != length() * k())
    throw ShapeError("KmerTokenizer: " + std::to_string(per_word.size()) + " scores for " + std::to_string(length()) +
                     " tokens of " + std::to_string(k()) + " words");
  std::vector<double> out(size_t(std::max<int64_t>(sequence_length, 0)));
  for (int64_t w = 0; w < int64_t(per_word.size()); ++w) {
    const int64_t begin = offset + w, end = std::min(begin + options_.k, int64_t(out.size()));
    for (int64_t i = begin; i < end; ++i) out[size_t(i)] += double(per_word[size_t(w)]) / double(end - begin);
  }
  return out;
}

// ---- characters -------------------------------------------------------------------------------------------------

CharTokenizer CharTokenizer::from_text(std::string_view text, std::vector<std::string> specials) {
  std::vector<char32_t> all = decode_utf8(text);
  std::set<char32_t> seen(all.begin(), all.end());
  std::vector<std::string> characters;
  for (char32_t c : seen) characters.push_back(encode_utf8(c));
  return CharTokenizer(std::move(specials), characters);
}

CharTokenizer::CharTokenizer(std::vector<std::string> specials, const std::vector<std::string>& characters)
    : words_(std::move(specials)) {
  size_t n_specials = words_.size();
  words_.insert(words_.end(), characters.begin(), characters.end());
  for (size_t i = 0; i < words_.size(); ++i) {
    if (!ids_.emplace(words_[i], int32_t(i)).second)
      throw ValueError("CharTokenizer: '" + words_[i] + "' is in the vocabulary twice");
    if (i < n_specials) continue;
    auto c = decode_utf8(words_[i]);
    if (c.size() != 1) throw ValueError("CharTokenizer: '" + words_[i] + "' is not one character");
    characters_[c[0]] = int32_t(i);
  }
  auto unknown = ids_.find("[UNK]");
  if (unknown != ids_.end() && size_t(unknown->second) < n_specials) unknown_ = unknown->second;
}

std::vector<int32_t> CharTokenizer::encode(std::string_view text) const {
  std::vector<int32_t> out;
  size_t at = 0;
  for (char32_t c : decode_utf8(text)) {
    auto it = characters_.find(c);
    if (it == characters_.end() && unknown_ < 0)
      throw ValueError("CharTokenizer: the character '" + encode_utf8(c) + "' at byte " + std::to_string(at) +
                       " is not in the vocabulary");
    out.push_back(it == characters_.end() ? unknown_ : it->second);
    at += encode_utf8(c).size();
  }
  return out;
}

std::string CharTokenizer::decode(std::span<const int32_t> ids) const {
  std::string out;
  for (int32_t id : ids) {
    if (id < 0 || id >= vocabulary())
      throw ValueError("CharTokenizer: id " + std::to_string(id) + " is outside the vocabulary of " +
                       std::to_string(vocabulary()));
    out += words_[size_t(id)];
  }
  return out;
}

int32_t CharTokenizer::id(const std::string& word) const {
  auto it = ids_.find(word);
  if (it == ids_.end()) throw ValueError("CharTokenizer: '" + word + "' is not in the vocabulary");
  return it->second;
}

}  // namespace whence
