#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <cmath>

#include "whence/nn/data/csv.h"
#include "whence/nn/data/fasta.h"
#include "whence/nn/data/idx.h"
#include "whence/nn/data/taxonomy.h"
#include "whence/nn/data/text.h"
#include "whence/tensor/error.h"
#include "tests/nn/io_test_util.h"

namespace whence {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace whence::testing;

void put_gz(const std::string& path, const std::string& text) {
  gzFile f = gzopen(path.c_str(), "wb");
  gzwrite(f, text.data(), unsigned(text.size()));
  gzclose(f);
}

// ---- FASTA ------------------------------------------------------------------------------------------------------

std::vector<FastaRecord> fasta(const std::string& text, FastaOptions o = {}) {
  return parse_fasta(bytes_of(text), o, "x.fa");
}

TEST(Fasta, RecordsWithEveryOddity) {
  auto r = fasta("\r\n;comment\r\n>one first  \r\nACgt\r\n\r\nNN-\r\n>empty\n>three\tx\nA C\tG\n \n>\nT");
  ASSERT_EQ(r.size(), 4u);
  EXPECT_EQ(r[0].header, "one first  ");
  EXPECT_EQ(r[0].id(), "one");
  EXPECT_EQ(r[0].sequence, "ACGTNN-");
  EXPECT_EQ(r[0].line, 3);
  EXPECT_EQ(r[1].header, "empty");
  EXPECT_EQ(r[1].sequence, "");
  EXPECT_EQ(r[2].id(), "three");
  EXPECT_EQ(r[2].sequence, "ACG");
  EXPECT_EQ(r[3].header, "");
  EXPECT_EQ(r[3].sequence, "T");  // no line ending at the end
  EXPECT_EQ(fasta("").size(), 0u);
  EXPECT_EQ(fasta("\n\n").size(), 0u);
  EXPECT_EQ(fasta("\xef\xbb\xbf>a\nC\n")[0].header, "a");
}

TEST(Fasta, Options) {
  EXPECT_EQ(fasta(">a\nacGT", {.upper = false})[0].sequence, "acGT");
  auto skipped = fasta(">a\n>b\nC\n>c\n", {.empty = FastaOptions::Empty::skip});
  ASSERT_EQ(skipped.size(), 1u);
  EXPECT_EQ(skipped[0].header, "b");
  EXPECT_THAT(message_of<IoError>([] { fasta(">a\nC\n>b x\n\n>c\nA", {.empty = FastaOptions::Empty::refuse}); }),
              HasSubstr("x.fa:3: the record 'b' has no sequence"));
}

TEST(Fasta, ErrorsNameTheLine) {
  EXPECT_THAT(message_of<IoError>([] { fasta("\nACGT\n>a\nC"); }), HasSubstr("x.fa:2: sequence before the first '>'"));
  EXPECT_THAT(message_of<IoError>([] { fasta(">a\nAC\nA1C\n"); }), HasSubstr("x.fa:3: '1' is no letter"));
  EXPECT_THAT(message_of<IoError>([] { fasta(std::string(">a\nA\0C\n", 7)); }), HasSubstr("x.fa:2: byte 0"));
  EXPECT_THAT(message_of<IoError>([] { read_fasta("/no/such.fa"); }),
              HasSubstr("/no/such.fa: cannot open: No such file"));
}

TEST(Fasta, TheIdIsTheFirstWord) {
  auto r = fasta(">  one two\nA\n>\tthree\nC\n> \nG\n>four\nT\n> \t five\tsix\nT\n");
  std::vector<std::string> ids;
  for (const auto& x : r) ids.emplace_back(x.id());
  EXPECT_THAT(ids, ElementsAre("one", "three", "", "four", "five"));
  EXPECT_EQ(r[0].header, "  one two");  // as it stands
}

TEST(Fasta, ACarriageReturnWithoutItsLineFeedIsAnError) {
  for (const char* text : {">a\rAC\r>b\rGT", ">a x\rAC\n", ";old Mac\r>a\rACGT\r", ">a\nAC\rGT\n", ">a\r\r\nAC\r\r\n",
                           ">a\nAC\n\r\r\n>b\nGT", "\r>a\rA", "\r\r"})
    EXPECT_THAT(message_of<IoError>([&] { fasta(text); }), HasSubstr("a carriage return without a line feed")) << text;
  EXPECT_THAT(message_of<IoError>([&] { fasta(">a\nAC\n>b\rGT\n"); }), HasSubstr("x.fa:3:"));
  EXPECT_EQ(fasta(">a\r\nAC\r\n\r\nGT\r\n")[0].sequence, "ACGT");
}

TEST(Fasta, StreamsGzip) {
  TempFolder tmp;
  std::string text;
  for (int i = 0; i < 5000; ++i) text += ">r" + std::to_string(i) + "\n" + std::string(size_t(i % 90), 'A') + "\nCGT\n";
  put_gz(tmp / "a.fa.gz", text);
  FastaReader reader(tmp / "a.fa.gz");
  FastaRecord r;
  int n = 0;
  while (reader.next(r)) {
    EXPECT_EQ(r.id(), "r" + std::to_string(n));
    EXPECT_EQ(r.sequence.size(), size_t(n % 90 + 3));
    ++n;
  }
  EXPECT_EQ(n, 5000);
  EXPECT_FALSE(reader.next(r));
}

// ---- CSV --------------------------------------------------------------------------------------------------------

CsvTable csv(const std::string& text, CsvOptions o = {}, const std::string& name = "x.csv") {
  return parse_csv(bytes_of(text), o, name);
}

TEST(Csv, QuotesLineBreaksAndEndings) {
  auto t =
      csv("\xef\xbb\xbf"
          "a,\"b \"\"q\"\"\",c\r\n\r\n1,\"two\nlines, and a comma\",\"\"\r\n\n\"3\",,x");
  EXPECT_THAT(t.columns(), ElementsAre("a", "b \"q\"", "c"));
  ASSERT_EQ(t.rows(), 2);
  EXPECT_EQ(t.at(0, "b \"q\""), "two\nlines, and a comma");
  EXPECT_EQ(t.at(0, "c"), "");
  EXPECT_EQ(t.at(1, size_t(1)), "");
  EXPECT_EQ(t.at(1, "c"), "x");
  EXPECT_EQ(t.line(0), 3);
  EXPECT_EQ(t.line(1), 6);  // the quoted line break counts
  EXPECT_EQ(csv("").rows(), 0);
  EXPECT_EQ(csv("a,b\n").rows(), 0);
  EXPECT_EQ(csv("1,\n").columns().size(), 2u);
}

TEST(Csv, NumbersAndColumns) {
  auto t = csv("x,y\n1.5, -2e3 \n+7,nan\nhello,\n");
  EXPECT_EQ(t.number(0, "x"), 1.5);
  EXPECT_EQ(t.number(0, "y"), -2000);
  EXPECT_EQ(t.number(1, "x"), 7);
  EXPECT_TRUE(std::isnan(t.number(1, "y")));
  EXPECT_THAT(message_of<IoError>([&] { t.numbers("x"); }),
              HasSubstr("x.csv:4: column 'x' holds 'hello', which is no number"));
  EXPECT_THAT(message_of<IoError>([&] { t.number(2, "y"); }), HasSubstr("holds ''"));
  EXPECT_THAT(message_of<ValueError>([&] { t.column("z"); }), HasSubstr("no column 'z'; there are: x, y"));
  EXPECT_THAT(message_of<ValueError>([&] { csv("a,a\n").column("a"); }), HasSubstr("two columns"));
  EXPECT_TRUE(t.has("y"));
  EXPECT_FALSE(t.has("z"));
}

TEST(Csv, NumbersAreDecimalOrOneOfThreeWords) {
  auto number = [](const std::string& text) { return csv("x\n\"" + text + "\"\n").number(0, "x"); };
  auto refusal = [&](const std::string& text) { return message_of<IoError>([&] { number(text); }); };
  for (auto [text, value] :
       std::vector<std::pair<const char*, double>>{{"0", 0},
                                                   {"-0.5", -0.5},
                                                   {"+.5", 0.5},
                                                   {"5.", 5},
                                                   {" 7 ", 7},
                                                   {"1E3", 1000},
                                                   {"1e+3", 1000},
                                                   {"2.5e-3", 0.0025},
                                                   {"007", 7},
                                                   {"1.7976931348623157e308", 1.7976931348623157e308},
                                                   {"4.9e-324", 4.9406564584124654e-324},
                                                   {"1e-400", 0},
                                                   {"-1e-400", 0},
                                                   {"0e999999", 0},
                                                   {"inf", HUGE_VAL},
                                                   {"-Infinity", -HUGE_VAL},
                                                   {"+INF", HUGE_VAL}})
    EXPECT_EQ(number(text), value) << text;
  EXPECT_TRUE(std::signbit(number("-1e-400")));
  for (const char* text : {"nan", "NaN", "-nan", "+NAN"}) EXPECT_TRUE(std::isnan(number(text))) << text;
  for (const char* text : {"",
                           " ",
                           "+",
                           "-",
                           ".",
                           "+-5",
                           "-+5",
                           "--5",
                           "++5",
                           "+ 5",
                           "- 5",
                           "5-",
                           "1 000",
                           "1,5",
                           "1_000",
                           "0x1F",
                           "0x1p3",
                           "1e",
                           "1e+",
                           "e5",
                           ".e5",
                           "1.2.3",
                           "1e5.5",
                           "nan(7)",
                           "nan()",
                           "-nan(x)",
                           "infinit",
                           "infx",
                           "in",
                           "1f",
                           "1.0f",
                           "1d0",
                           "\xe2\x88\x92"
                           "5",
                           "5\t",
                           "5\n",
                           "½",
                           "true"})
    EXPECT_THAT(refusal(text), HasSubstr("which is no number")) << text;
  for (const char* text : {"1e999", "-1e999", "1.8e308", "1e400", "9e99999", "+2e308"})
    EXPECT_THAT(refusal(text), HasSubstr("which lies beyond a double")) << text;
  EXPECT_THAT(refusal(std::string(400, '9')), HasSubstr("which lies beyond a double"));
  EXPECT_THAT(refusal(std::string("5\0", 2)), HasSubstr("which is no number"));
}

TEST(Csv, WhatIsNotThereIsNamed) {
  auto t = csv("a,b\n1,2\n");
  for (int64_t row : {int64_t(-1), int64_t(1), INT64_MAX}) {
    EXPECT_THAT(message_of<ValueError>([&] { t.at(row, 0); }), HasSubstr("x.csv: no row " + std::to_string(row)));
    EXPECT_THROW(t.number(row, "b"), ValueError);
    EXPECT_THROW(t.line(row), ValueError);
  }
  EXPECT_THAT(message_of<ValueError>([&] { t.at(0, 2); }), HasSubstr("no column 2, there are 2"));
}

TEST(Csv, OnlyTheWholeMarkIsAMark) {
  const std::string mark = "\xef\xbb\xbf";
  EXPECT_THAT(csv("\xef\xbc\xa1,b\n1,2\n").columns(), ElementsAre("\xef\xbc\xa1", "b"));  // a wide A
  EXPECT_THAT(csv("\xef\xbb\xb0,b\n1,2\n").columns(), ElementsAre("\xef\xbb\xb0", "b"));  // an Arabic letter
  EXPECT_THAT(csv("\xef,b\n1,2\n").columns(), ElementsAre("\xef", "b"));                  // Latin 1
  EXPECT_THAT(csv("\xef\xbb\n1\n").columns(), ElementsAre("\xef\xbb"));
  EXPECT_THAT(csv("\xef").columns(), ElementsAre("\xef"));
  EXPECT_THAT(csv("\xef\"q\",b\n").columns(), ElementsAre("\xef\"q\"", "b"));
  EXPECT_THAT(csv(mark + "\"a\",b\n").columns(), ElementsAre("a", "b"));
  EXPECT_THAT(csv(mark + mark + "a\n").columns(), ElementsAre(mark + "a"));  // the second is a letter
  EXPECT_EQ(csv(mark).columns().size(), 0u);
  EXPECT_THAT(csv(mark + "\r\n\na\n").columns(), ElementsAre("a"));
  EXPECT_EQ(csv("a\n" + mark + "1\n").at(0, "a"), mark + "1");
  for (const char* bad : {"\xff\xfe"
                          "a",
                          "\xfe\xff"
                          "b"})
    EXPECT_THAT(message_of<IoError>([&] { csv(bad); }), HasSubstr("x.csv:1: the text is UTF-16"));
  EXPECT_THAT(csv(mark + "\xff\xfe,b\n").columns(), ElementsAre("\xff\xfe", "b"));
  EXPECT_THAT(csv("\xff,b\n").columns(), ElementsAre("\xff", "b"));
}

TEST(Csv, ACarriageReturnWithoutItsLineFeedIsAnErrorOutsideQuotes) {
  for (const char* text : {"a,b\r1,2\r3,4\r", "a,b\r\r\n1,2\r\r\n", "a,b\n1,2\r", "a,b\n1\r,2\n", "\ra,b\n",
                           "a,b\n\r\r\n1,2\n", "a,b\n\"1\"\r,2\n", "a,b\n\"1\",\"2\"\r\r\n", "a,b\n1,\r2\n", "\r"})
    EXPECT_THAT(message_of<IoError>([&] { csv(text); }), HasSubstr("a carriage return without a line feed")) << text;
  EXPECT_THAT(message_of<IoError>([&] { csv("a\n1\n2\r3\n"); }), HasSubstr("x.csv:3:"));
  auto t = csv("a,b\r\n\"x\ry\",\"\r\"\r\n\"\r\n\",\r\n");
  EXPECT_EQ(t.rows(), 2);
  EXPECT_EQ(t.at(0, "a"), "x\ry");
  EXPECT_EQ(t.at(0, "b"), "\r");
  EXPECT_EQ(t.at(1, "a"), "\r\n");
  EXPECT_EQ(t.at(1, "b"), "");
}

TEST(Csv, RaggedRowsAndBadQuotesNameTheLine) {
  EXPECT_THAT(message_of<IoError>([] { csv("a,b\n1,2\n\"x\ny\",1\n1,2,3\n"); }),
              HasSubstr("x.csv:5: the row has 3 fields, the header has 2"));
  EXPECT_THAT(message_of<IoError>([] { csv("1,2\n3\n", {.header = false}); }),
              HasSubstr("x.csv:2: the row has 1 fields, the first row has 2"));
  EXPECT_THAT(message_of<IoError>([] { csv("a\n\"open\n\n"); }),
              HasSubstr("x.csv:2: the quote that opens here is never closed"));
  EXPECT_THAT(message_of<IoError>([] { csv("a,b\n\"x\"y,1\n"); }),
              HasSubstr("x.csv:2: text after the closing quote of field 1"));
}

TEST(Csv, DelimiterFollowsTheName) {
  EXPECT_EQ(csv("a\tb\n1,5\t2\n", {}, "x.tsv").at(0, "a"), "1,5");
  EXPECT_EQ(csv("a\tb\n1\t2\n", {}, "x.tab.gz").at(0, "b"), "2");
  EXPECT_EQ(csv("a;b\n1;2\n", {.delimiter = ';'}).at(0, "b"), "2");
  for (char bad : {'"', '\n', '\r', '\xef'}) EXPECT_THROW(csv("a", {.delimiter = bad}), ValueError);
  TempFolder tmp;
  put_gz(tmp / "t.tsv.gz", "a\tb\n1\t2\n");
  EXPECT_EQ(read_csv(tmp / "t.tsv.gz").at(0, "b"), "2");
}

TEST(Csv, RealFilesWhereTheyAre) {
  std::string coi = in_repository("../shared/data/dna/coi/trichoptera_coi.csv.gz"),
              veteran = in_repository("../shared/data/survival/veteran.csv");
  if (!std::filesystem::exists(coi)) GTEST_SKIP() << "no " << coi;
  auto t = read_csv(coi);
  EXPECT_EQ(t.rows(), 16995);
  EXPECT_THAT(t.columns(), ElementsAre("id", "kind", "subclade", "genus", "species", "nucleotides"));
  int64_t records = 0;
  for (const auto& k : t.texts("kind")) records += k == "record";
  EXPECT_EQ(records, 13301);
  auto v = read_csv(veteran);
  EXPECT_EQ(v.rows(), 137);
  double events = 0;
  for (double s : v.numbers("status")) events += s;
  EXPECT_EQ(events, 128);
}

// ---- idx --------------------------------------------------------------------------------------------------------

std::string be(uint32_t n) { return {char(n >> 24), char(n >> 16), char(n >> 8), char(n)}; }
Tensor idx(const std::string& s) { return parse_idx(bytes_of(s), "x.idx"); }

TEST(Idx, EveryTypeBigEndian) {
  Tensor images = idx(be(0x803) + be(2) + be(1) + be(3) + "\x01\x02\x03\x04\x05\xff");
  EXPECT_EQ(images.shape(), (Shape{2, 1, 3}));
  EXPECT_EQ(images.to_vector<uint8_t>(), (std::vector<uint8_t>{1, 2, 3, 4, 5, 255}));
  EXPECT_EQ(idx(be(0x901) + be(1) + "\xff").item(), -1);
  EXPECT_EQ(idx(be(0xb01) + be(1) + "\xff\xfe").item(), -2);
  EXPECT_EQ(idx(be(0xc01) + be(1) + be(70000)).item(), 70000);
  EXPECT_EQ(idx(be(0xd01) + be(1) + be(0x3fc00000)).item(), 1.5);
  EXPECT_EQ(idx(be(0xe01) + be(1) + be(0x3ff80000) + be(0)).item(), 1.5);
  EXPECT_EQ(idx(be(0xe01) + be(1) + be(0x3ff80000) + be(0)).dtype(), f64);
  EXPECT_EQ(idx(be(0x802) + be(0) + be(5)).shape(), (Shape{0, 5}));
}

TEST(Idx, WrongFilesSayWhy) {
  auto why = [](const std::string& s) { return message_of<IoError>([&] { idx(s); }); };
  EXPECT_THAT(why(""), HasSubstr("x.idx: not a valid idx file: shorter than its magic"));
  EXPECT_THAT(why("\x89PNG...."), HasSubstr("begins with 89 50 4e 47"));
  EXPECT_THAT(why(be(0x0a01) + be(1) + "x"), HasSubstr("no idx magic"));
  EXPECT_THAT(why(be(0x800)), HasSubstr("0 dimensions"));
  EXPECT_THAT(why(be(0x809)), HasSubstr("9 dimensions"));
  EXPECT_THAT(why(be(0x802) + be(1)), HasSubstr("within its extents"));
  EXPECT_THAT(why(be(0x801) + be(4) + "abc"), HasSubstr("[4] ask for 4 bytes, 3 are there"));
  EXPECT_THAT(why(be(0x801) + be(2) + "abc"), HasSubstr("bytes after the 2"));
  EXPECT_THAT(why(be(0xe03) + be(~0u) + be(~0u) + be(~0u)), HasSubstr("overflow"));
  EXPECT_THAT(why(be(0x803) + be(1u << 31) + be(0) + be(1u << 20)), HasSubstr("more bytes than an address space"));
  EXPECT_THAT(why(be(0x803) + be(~0u) + be(1u << 30) + be(1) + "x"),
              HasSubstr("1 are there"));  // quickly, and without the memory
}

TEST(Idx, MnistWhereItIs) {
  std::string images = in_repository("../shared/data/image/mnist-t10k-images-idx3-ubyte.gz");
  if (!std::filesystem::exists(images)) GTEST_SKIP() << "no " << images;
  EXPECT_EQ(read_idx(images).shape(), (Shape{10000, 28, 28}));
  Tensor labels = read_idx(in_repository("../shared/data/image/mnist-t10k-labels-idx1-ubyte.gz"));
  EXPECT_EQ(labels.shape(), Shape{10000});
  EXPECT_EQ(labels.item(0), 7);
}

// ---- text -------------------------------------------------------------------------------------------------------

TEST(Text, SplitTrimUtf8) {
  EXPECT_THAT(split_text("a,,b", ','), ElementsAre("a", "", "b"));
  EXPECT_THAT(split_text("", ','), ElementsAre(""));
  EXPECT_EQ(trimmed(" \ta b\r\n"), "a b");
  EXPECT_EQ(trimmed(" \n"), "");
  std::string text = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80";
  auto points = decode_utf8(text);
  EXPECT_THAT(points, ElementsAre(U'a', U'\u00e9', U'\u20ac', U'\U0001f600'));
  std::string back;
  for (char32_t c : points) back += encode_utf8(c);
  EXPECT_EQ(back, text);
  for (const char* bad : {"a\xff", "a\xc3", "a\xc0\x80", "a\xed\xa0\x80", "a\xe2\x82", "a\xf4\x90\x80\x80", "a\x80"})
    EXPECT_THAT(message_of<ValueError>([&] { decode_utf8(bad); }), HasSubstr("at byte 1")) << bad;
}

// ---- lineage headers --------------------------------------------------------------------------------------------

TEST(Taxonomy, BothHeaderForms) {
  auto a = parse_lineage_header(
      "S000006193 Brachybacterium tyrofermentans (T); CNRZ 926; X91657 Brachybacterium "
      "tyrofermentans\tBacteria; Actinobacteria; Actinobacteria; Actinomycetales; Dermabacteraceae; "
      "Brachybacterium");
  EXPECT_EQ(a.id, "S000006193");
  EXPECT_EQ(a.species, "Brachybacterium tyrofermentans");
  EXPECT_EQ(a.genus(), "Brachybacterium");
  EXPECT_EQ(a.family(), "Dermabacteraceae");
  EXPECT_EQ(a.order(), "Actinomycetales");
  EXPECT_EQ(a.ranks[0], "Bacteria");
  auto b = parse_lineage_header(
      "7000004128189528\tAcidothermus cellulolyticus 11B, complete genome. "
      "\t7000004128189528|16s_rRNA|ATC1|x|351607\tBacteria; Actinobacteria; Actinobacteria; Actinomycetales; "
      "Acidothermaceae; Acidothermus");
  EXPECT_EQ(b.id, "7000004128189528");
  EXPECT_EQ(b.species, "Acidothermus cellulolyticus");
  EXPECT_EQ(b.family(), "Acidothermaceae");
  EXPECT_EQ(parse_lineage_header("1\tAcidaminococcus sp. D21 \tx\ta; b; c; d; e; f").species, "");
  EXPECT_EQ(parse_lineage_header("1 Candidatus Blochmannia floridanus (T)\ta; b; c; d; e; f").species,
            "Blochmannia floridanus");
  EXPECT_EQ(parse_lineage_header(" 7 Homo sapiens\ta; b; c; d; e; f").id, "7");
  EXPECT_THROW(parse_lineage_header("S1 Homo sapiens"), ValueError);
  EXPECT_THROW(parse_lineage_header("  "), ValueError);
  EXPECT_THAT(message_of<ValueError>([] { parse_lineage_header("S1 Homo sapiens\tA; B"); }), HasSubstr("2 ranks"));
}

}  // namespace
}  // namespace whence
