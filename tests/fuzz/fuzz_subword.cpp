#include "tests/fuzz/fuzz.h"
#include "whence/nn/data/subword.h"
#include "whence/nn/data/text.h"
#include "whence/tensor/error.h"

using namespace whence;

namespace {

// What holds of every tokenizer: lists of one length, ranges inside the text, ids that decode.
void check(const SubwordTokenizer& tokenizer, const std::string& text) {
  int64_t characters = int64_t(decode_utf8(text).size());
  for (bool special : {true, false}) {
    Encoding e = tokenizer.encode_pair(text, "x " + text, special);
    size_t n = e.size();
    fuzz::require(e.tokens.size() == n && e.type_ids.size() == n && e.sequence_ids.size() == n &&
                      e.special_tokens_mask.size() == n && e.offsets.size() == n && e.byte_offsets.size() == n,
                  "lists of one length");
    for (size_t i = 0; i < n; ++i) {
      auto [begin, end] = e.offsets[i];
      fuzz::require(0 <= begin && begin <= end && end <= characters + 2, "code points inside the text");
      auto [first, last] = e.byte_offsets[i];
      fuzz::require(0 <= first && first <= last && last <= int64_t(text.size()) + 2, "bytes inside the text");
    }
    try {
      (void)decode_utf8(tokenizer.decode(e.ids, special));
    } catch (const ValueError&) {  // a template may name ids that no token has
      for (int32_t id : e.ids)
        if (id >= tokenizer.vocabulary()) return;
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  for (bool json : {true, false}) {
    try {
      auto tokenizer = json ? SubwordTokenizer::parse(bytes) : SubwordTokenizer::parse_llama2c(bytes);
      for (const char* text : {"", " ", "ab a  b\n", "<e>\xc3\xa9 a<e>", "\xe4\xb8\xad.'s \xf0\x9f\x99\x82 ABAB"})
        check(tokenizer, text);
    } catch (const IoError&) {}
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  const std::string vocabulary =
      R"("vocab":{"a":0,"b":1,"ab":2,"?":3,"##b":4,"\u2581":5,"\u0120":6,"<0xC3>":7,"<0xA9>":8,"\u00c3":9})";
  const std::string added = R"("added_tokens":[{"id":10,"content":"<e>","single_word":false,"lstrip":true,)"
                            R"("rstrip":true,"normalized":false,"special":true}])";
  const std::string piece = R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<e>","type_id":0}},)"
                            R"({"Sequence":{"id":"A","type_id":0}}],)"
                            R"("pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],)"
                            R"("special_tokens":{"<e>":{"id":"<e>","ids":[10],"tokens":["<e>"]}}})";
  const std::string bytes = R"({"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true})";
  std::string llama2c("\x08\0\0\0", 4);
  auto token = [&](const std::string& text) {
    llama2c += std::string(4, '\0') + char(text.size()) + std::string(3, '\0') + text;
  };
  for (int i = 0; i < 259; ++i) token("t" + std::to_string(i));
  for (const char* text : {"a", "b", "ab", " ", " a"}) token(text);
  return {
      "{" + added + R"(,"pre_tokenizer":)" + bytes + R"(,"post_processor":)" + bytes + R"(,"decoder":)" + bytes +
          R"(,"model":{"type":"BPE","unk_token":"?","merges":[["a","b"],["a","b"]],)" + vocabulary + "}}",
      "{" + added +
          R"(,"pre_tokenizer":{"type":"Metaspace","replacement":"\u2581","prepend_scheme":"first","split":false},)"
          R"("post_processor":)" +
          piece +
          R"(,"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"\u2581"},"content":" "},)"
          R"({"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},)"
          R"("model":{"type":"BPE","byte_fallback":true,"fuse_unk":true,"unk_token":"?","merges":["a b"],)" +
          vocabulary + "}}",
      R"({"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"\u2581"},)"
      R"({"type":"Replace","pattern":{"String":" "},"content":"\u2581"}]},)"
      R"("model":{"type":"BPE","byte_fallback":true,"merges":["a b"],)" +
          vocabulary + "}}",
      R"({"normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,)"
      R"("strip_accents":null,"lowercase":true},"pre_tokenizer":{"type":"BertPreTokenizer"},)"
      R"("post_processor":{"type":"BertProcessing","sep":["a",0],"cls":["b",1]},)"
      R"("decoder":{"type":"WordPiece","prefix":"##","cleanup":true},"model":{"type":"WordPiece","unk_token":"?",)"
      R"("continuing_subword_prefix":"##","max_input_chars_per_word":100,)" +
          vocabulary + "}}",
      llama2c,
  };
}
