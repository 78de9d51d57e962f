#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/nn/io_test_util.h"
#include "tests/thrown.h"
#include "whence/nn/data/csv.h"

namespace whence {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace whence::testing;

TEST(CsvWriter, QuotesWhatNeedsIt) {
  TempFolder tmp;
  CsvWriter out(tmp / "t.csv", {"name", "value"});
  out.row({"plain", 1.5});
  out.row({"a,b \"c\"\nd", int64_t(-3)});
  out.row({"", 0.1f});
  EXPECT_EQ(slurp(tmp / "t.csv"), "");  // nothing before commit
  out.commit();
  EXPECT_EQ(slurp(tmp / "t.csv"), "name,value\nplain,1.5\n\"a,b \"\"c\"\"\nd\",-3\n,0.1\n");
  CsvTable back = read_csv(tmp / "t.csv");
  EXPECT_THAT(back.texts("name"), ElementsAre("plain", "a,b \"c\"\nd", ""));
  EXPECT_EQ(back.number(1, "value"), -3);
}

TEST(CsvWriter, WhatIsWrittenIsRead) {
  TempFolder tmp;
  const std::vector<std::string> hard{"", "\xef\xbb\xbf", "\xff\xfe", "\x1f\x8b", "\t", " x ", "\r", "\"", "é"};
  for (const std::string& text : hard) {
    CsvWriter out(tmp / "t.tsv");
    out.row({text});
    out.row({text});
    out.commit();
    CsvTable back = read_csv(tmp / "t.tsv", {.header = false});
    ASSERT_EQ(back.rows(), 2) << text;
    EXPECT_EQ(back.at(0, 0), text);
  }
  for (double x : {0.1, 1e300, -0.0, 5e-324, std::nextafter(1.0, 2.0), HUGE_VAL, std::nan("")}) {
    std::string row = csv_row(std::vector<CsvField>{x});
    double back = parse_csv(bytes_of(row), {.header = false}).number(0, 0);
    EXPECT_TRUE(back == x || (std::isnan(back) && std::isnan(x))) << row;
  }
}

TEST(CsvWriter, RefusesAnotherWidth) {
  TempFolder tmp;
  CsvWriter out(tmp / "t.csv", {"a", "b"});
  EXPECT_THAT(thrown<ValueError>([&] { out.row({1}); }), HasSubstr("t.csv: a row of 1 fields in a table of 2 columns"));
  EXPECT_THAT(thrown<ValueError>([&] { CsvWriter(tmp / "u.csv", {"a"}, '"'); }), HasSubstr("cannot separate fields"));
}

}  // namespace
}  // namespace whence
