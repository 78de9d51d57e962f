// The tokenizer.bin of llama2.c (github.com/karpathy/llama2.c): int32 length of the longest token, then per token float
// score, int32 length, bytes. Tokens 0 to 2 are <unk>, <s> and </s>, 3 to 258 the bytes.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "whence/nn/data/subword/impl.h"
#include "whence/nn/io/file.h"
#include "whence/tensor/error.h"

namespace whence {

using namespace subword;

namespace {

static_assert(std::endian::native == std::endian::little, "the file format is little-endian");
constexpr int32_t kBegin = 1, kEnd = 2, kFirstByte = 3, kLongest = 1024;

// Any two tokens that make a third merge to it; the highest score first.
Merges merges_by_score(const Vocabulary& vocabulary, const std::vector<float>& scores) {
  std::vector<float> order(scores);
  std::sort(order.begin(), order.end(), std::greater<>());
  Merges merges;
  for (int32_t id = 0; id < int32_t(scores.size()); ++id) {
    const std::string& token = *vocabulary.token(id);
    auto rank = std::lower_bound(order.begin(), order.end(), scores[size_t(id)], std::greater<>()) - order.begin();
    for (size_t cut = 1; cut < token.size(); ++cut) {
      int32_t left = vocabulary.id(token.substr(0, cut)), right = vocabulary.id(token.substr(cut));
      if (left >= 0 && right >= 0) merges[pair_key(left, right)] = {int32_t(rank), id};
    }
  }
  return merges;
}

}  // namespace

SubwordTokenizer SubwordTokenizer::parse_llama2c(std::string_view bytes, const std::string& name) {
  auto out = std::make_shared<Impl>();
  out->name = name;
  size_t at = 0, id = 0;
  auto refuse = [&](const std::string& why) {
    throw IoError(name + ": not a tokenizer of llama2.c: token " + std::to_string(id) + ": " + why);
  };
  auto take = [&](void* to, size_t n, const char* what) {
    if (bytes.size() - at < n) refuse(std::string("the file ends within its ") + what);
    std::memcpy(to, bytes.data() + at, n);
    at += n;
  };
  int32_t longest = 0;
  take(&longest, 4, "first number");
  std::vector<float> scores;
  for (; at < bytes.size(); ++id) {
    float score;
    int32_t length;
    take(&score, 4, "score");
    take(&length, 4, "length");
    if (!std::isfinite(score)) refuse("its score is no number");
    if (length < 1 || length > std::min(longest, kLongest))
      refuse("its length " + std::to_string(length) + " lies outside 1.." +
             std::to_string(std::min(longest, kLongest)));
    if (bytes.size() - at < size_t(length)) refuse("the file ends within its bytes");
    std::string token(bytes.substr(at, size_t(length)));
    at += size_t(length);
    if (unicode::valid_until(token) < token.size()) refuse("it is no UTF-8");
    if (!out->vocabulary->add(token, int32_t(id))) refuse("'" + token + "' is there twice");
    scores.push_back(score);
  }
  for (; id < size_t(kFirstByte) + 256;) refuse("the three special tokens and 256 bytes have to be there");

  out->model = bpe_model(out->vocabulary, merges_by_score(*out->vocabulary, scores), {.byte_fallback = true});
  out->normalizers = {prepend_normalizer(" ")};
  auto begin = [&](int32_t type) {
    return TemplatePiece{.type_id = type, .ids = {kBegin}, .tokens = {*out->vocabulary->token(kBegin)}};
  };
  out->post_processors = {
      template_processor({begin(0), {.text = 0}}, {begin(0), {.text = 0}, begin(1), {.text = 1, .type_id = 1}})};
  out->decoders = {byte_fallback_decoder(), fuse_decoder(), strip_decoder(U' ', 1, 0)};
  out->special = {0, kBegin, kEnd};
  return SubwordTokenizer(out);
}

SubwordTokenizer SubwordTokenizer::read_llama2c(const std::string& path) {
  return parse_llama2c(read_text(path), path);
}

}  // namespace whence
