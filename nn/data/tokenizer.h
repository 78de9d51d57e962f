// From letters to token ids, and back to the letters a token stands for.
#pragma once
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "whence/tensor/tensor.h"

namespace whence {

/// Token ids with a mask that is 1 where a token stands for content and 0 on padding.
struct Tokens {
  std::vector<int32_t> ids;
  std::vector<uint8_t> mask;
};

struct KmerOptions {
  int k = 4;              ///< 1 to 12
  int64_t max_len = 660;  ///< nucleotides; sequences are cut or padded with 'N' to it
};

/// The tokens of BarcodeBERT: k-mers side by side (stride k), ids 0 [MASK], 1 [UNK], from 2 on the 4^k words
/// over ACGT in dictionary order (AAAA is 2). A k-mer with any other letter, lower case included, is [UNK].
///
/// The mask is zero from position (length after the offset) / k on, so a k-mer that is part sequence, part
/// padding is masked; a sequence that fills max_len has no zeros.
class KmerTokenizer {
 public:
  static constexpr int32_t kMask = 0, kUnknown = 1, kFirstWord = 2;

  /// \throws ValueError for k outside 1..12 or max_len < k.
  explicit KmerTokenizer(KmerOptions options = {});
  int k() const { return options_.k; }
  int64_t max_len() const { return options_.max_len; }
  int64_t length() const { return options_.max_len / options_.k; }  ///< tokens per sequence: 165 for k = 4
  int64_t vocabulary() const { return kFirstWord + (int64_t(1) << 2 * options_.k); }  ///< 258 for k = 4

  /// `offset` (0 to k - 1; drawn at random in training, 0 otherwise) drops that many leading nucleotides.
  /// \throws ValueError for another offset.
  Tokens encode(std::string_view sequence, int offset = 0) const;
  /// The same into row memory of length() elements each.
  void encode_into(std::string_view sequence, int offset, int32_t* ids, uint8_t* mask) const;
  /// The overlapping words of each token: word j of token t begins at letter j of the token (j < k) and may reach into
  /// the next one; word 0 is the token's own. ids: length() * k elements; mask: length(), as above.
  void encode_overlapping_into(std::string_view sequence, int offset, int32_t* ids, uint8_t* mask) const;
  /// ids i32 [n, length()] and mask u8 [n, length()].
  std::pair<Tensor, Tensor> encode_batch(std::span<const std::string> sequences, int offset = 0) const;

  /// "ACGT", "[MASK]" or "[UNK]". \throws ValueError outside the vocabulary.
  std::string word(int32_t id) const;
  /// The half-open range of the original sequence that token `position` covers, cut at `sequence_length`;
  /// empty on padding.
  std::pair<int64_t, int64_t> nucleotides(int64_t position, int64_t sequence_length, int offset = 0) const;
  /// Spreads one score per token (relevance, for example) evenly over the nucleotides it covers; the sum is
  /// kept, except for scores on padding, which are left out. Returns `sequence_length` values.
  std::vector<float> spread(std::span<const float> per_token, int64_t sequence_length, int offset = 0) const;
  /// The same for overlapping words, length() * k scores: each over the letters of its word.
  std::vector<double> spread_overlapping(std::span<const float> per_word, int64_t sequence_length,
                                         int offset = 0) const;

 private:
  int32_t id_at(std::string_view letters, int64_t begin) const;
  void encode_words(std::string_view sequence, int offset, int words, int32_t* ids, uint8_t* mask) const;
  KmerOptions options_;
};

/// One token per character (code point of UTF-8).
class CharTokenizer {
 public:
  /// The characters of `text` in code point order, after `specials` (for example {"[PAD]", "[UNK]"}).
  static CharTokenizer from_text(std::string_view text, std::vector<std::string> specials = {});
  /// A given vocabulary: every word after `specials` must be one character. Id = position.
  /// A special named "[UNK]" stands for unknown characters; without it they are an error.
  /// \throws ValueError for repeats or longer words.
  explicit CharTokenizer(std::vector<std::string> specials, const std::vector<std::string>& characters);

  int64_t vocabulary() const { return int64_t(words_.size()); }
  const std::vector<std::string>& words() const { return words_; }
  /// \throws ValueError naming an unknown character and its byte offset, where there is no "[UNK]".
  std::vector<int32_t> encode(std::string_view text) const;
  /// Specials come out by name. \throws ValueError for an id outside the vocabulary.
  std::string decode(std::span<const int32_t> ids) const;
  /// Id of a special or a character. \throws ValueError.
  int32_t id(const std::string& word) const;

 private:
  std::vector<std::string> words_;
  std::map<std::string, int32_t> ids_;
  std::map<char32_t, int32_t> characters_;
  int32_t unknown_ = -1;
};

}  // namespace whence
