// The two kinds of tokens, and the file that holds a trained model: weights, shape and vocabulary in one.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "whence/models/gpt2.h"
#include "whence/nn/data/subword.h"
#include "whence/nn/data/tokenizer.h"

namespace gpt {

/// Characters, or byte-pair encoding.
class Vocabulary {
 public:
  static Vocabulary characters(const std::string& text);
  static Vocabulary pairs(const std::string& text, int64_t size);
  static Vocabulary parse(const std::string& saved);  ///< of str()
  std::string str() const;
  int64_t size() const;
  std::vector<int32_t> encode(const std::string& text) const;
  std::string decode(const std::vector<int32_t>& ids) const;
  std::string shown(int32_t id) const;  ///< a token as one sees it on a page
  int32_t blank() const;                ///< the token of " ", -1 where there is none
  const char* kind() const { return characters_ ? "characters" : "pieces"; }

 private:
  std::optional<whence::CharTokenizer> characters_;
  std::optional<whence::SubwordTokenizer> pairs_;
};

struct Language {
  Vocabulary vocabulary;
  std::unique_ptr<whence::models::Gpt2> model;
};
void save(const std::string& path, const Language& language);
/// \throws IoError, or ValueError when the file is not one of this program's
Language load(const std::string& path);

}  // namespace gpt
