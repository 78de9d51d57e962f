#include "whence/nn/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

#include "whence/nn/progress.h"
#include "whence/tensor/error.h"
#include "tests/nn/io_test_util.h"

namespace whence {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using namespace whence::testing;

// ---- lines ------------------------------------------------------------------------------------------------------

TEST(Metrics, WritesAndReadsLines) {
  TempFolder tmp;
  {
    MetricsWriter w(tmp / "m.jsonl");
    w.write({{"step", int64_t(1)}, {"loss", 0.1}, {"note", std::string("a\n\"b\"")}, {"ok", true}});
    w.write({{"step", int64_t(2)}, {"loss", NAN}, {"bad", std::string("\xff")}});
    EXPECT_EQ(slurp(tmp / "m.jsonl").substr(0, 22), "{\"step\":1,\"loss\":0.1,\"");
  }
  MetricsWriter(tmp / "m.jsonl").write(Metrics{{"step", int64_t(3)}, {"loss", 1e-300}});
  auto m = read_metrics(tmp / "m.jsonl");
  ASSERT_EQ(m.size(), 3u);
  EXPECT_EQ(std::get<int64_t>(m[0].at("step")), 1);
  EXPECT_EQ(std::get<double>(m[0].at("loss")), 0.1);
  EXPECT_EQ(std::get<std::string>(m[0].at("note")), "a\n\"b\"");
  EXPECT_EQ(std::get<bool>(m[0].at("ok")), true);
  EXPECT_TRUE(std::isnan(std::get<double>(m[1].at("loss"))));
  auto [x, y] = metric_series(m, "step", "loss");
  EXPECT_THAT(x, ElementsAre(1, 2, 3));
  EXPECT_EQ(y[2], 1e-300);
  EXPECT_EQ(metric_series(m, "step", "note").first.size(), 0u);
}

TEST(Metrics, ACutLastLineIsIgnoredAndGoesWhenWritingContinues) {
  TempFolder tmp;
  std::string whole = "{\"step\":1}\n{\"step\":2}\n";
  put(tmp / "m", whole + "{\"step\":3,\"lo");
  EXPECT_EQ(read_metrics(tmp / "m").size(), 2u);
  MetricsWriter(tmp / "m").write({{"step", int64_t(3)}});
  EXPECT_EQ(slurp(tmp / "m"), whole + "{\"step\":3}\n");
  put(tmp / "m", whole + "{\"step\":3}");  // whole but for its line break
  MetricsWriter(tmp / "m").write({{"step", int64_t(4)}});
  EXPECT_EQ(slurp(tmp / "m"), whole + "{\"step\":3}\n{\"step\":4}\n");
  put(tmp / "m", "{\"step\":" + std::string(10'000, '1'));  // longer than one block, no line break at all
  MetricsWriter(tmp / "m").write({{"step", int64_t(4)}});
  EXPECT_EQ(slurp(tmp / "m"), "{\"step\":4}\n");
  put(tmp / "m", "{\"step\":1}\nrubbish\n{\"step\":2}\n");
  EXPECT_THAT(message_of<IoError>([&] { read_metrics(tmp / "m"); }), HasSubstr(":2: no JSON object: 'rubbish'"));
  EXPECT_THROW(MetricsWriter(tmp / "no/m"), IoError);
}

TEST(Metrics, RewindsAfterAResume) {
  TempFolder tmp;
  put(tmp / "m", "{\"step\":10}\n{\"eval\":1}\n{\"step\":20}\n{\"step\":30}\n{\"st");
  rewind_metrics(tmp / "m", "step", 20);
  EXPECT_EQ(slurp(tmp / "m"), "{\"step\":10}\n{\"eval\":1}\n{\"step\":20}\n");
  rewind_metrics(tmp / "missing", "step", 20);
  EXPECT_FALSE(std::filesystem::exists(tmp / "missing"));
}

// ---- picture ----------------------------------------------------------------------------------------------------

size_t count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

TEST(CurveSvg, DrawsEverySeriesWithAxesAndLegend) {
  std::vector<double> x, a, b;
  for (int i = 0; i < 200; ++i) {
    x.push_back(i * 60);
    a.push_back(5 * std::exp(-i / 40.0) + 0.5 + 0.2 * std::sin(i * 7.0));
    b.push_back(4 * std::exp(-i / 60.0) + 0.6);
  }
  a[50] = NAN;
  std::string svg =
      curve_svg({{"train <1>", x, a}, {"valid", x, b}}, {.title = "Loss & more", .y_label = "loss", .smoothing = 0.9});
  EXPECT_THAT(svg, AllOf(HasSubstr("Loss &amp; more"), HasSubstr("train &lt;1&gt;"), HasSubstr(">valid<"),
                         HasSubstr(">10k<"), Not(HasSubstr("nan")), Not(HasSubstr("inf"))));
  EXPECT_EQ(count(svg, "<path fill=\"none\" stroke=\""), 4u);  // raw and smooth for both
  EXPECT_EQ(svg.substr(svg.size() - 7), "</svg>\n");
  std::string logarithmic = curve_svg({{"", x, b}}, {.log_y = true});
  EXPECT_THAT(logarithmic, Not(HasSubstr("nan")));
  EXPECT_EQ(count(logarithmic, "<path fill=\"none\" stroke=\""), 1u);
  TempFolder tmp;
  save_curves(tmp / "a.svg", {{"train", x, a}});
  EXPECT_GT(slurp(tmp / "a.svg").size(), 2000u);
}

TEST(CurveSvg, OddData) {
  for (bool log : {false, true}) {
    for (const auto& s : std::vector<CurveSeries>{{"empty", {}, {}},
                                                  {"hole", {1, 2}, {NAN, INFINITY}},
                                                  {"one", {3}, {4}},
                                                  {"flat", {1, 2}, {0.5, 0.5}},
                                                  {"negative", {1, 2}, {-1, -2}},
                                                  {"tiny", {0, 1}, {1e-300, 2e-300}},
                                                  {"wide", {0, 1}, {1e-30, 1e30}}}) {
      std::string svg = curve_svg({s}, {.log_y = log, .smoothing = 0.5});
      EXPECT_THAT(svg, AllOf(Not(HasSubstr("nan")), Not(HasSubstr("inf")))) << s.name << log;
    }
  }
  EXPECT_THROW(curve_svg({{"x", {1}, {}}}), ValueError);
  EXPECT_THROW(curve_svg({}, {.smoothing = 1}), ValueError);
}

// ---- progress ---------------------------------------------------------------------------------------------------

struct Pipe {
  Pipe() {
    if (::pipe(ends) != 0) std::abort();
  }
  ~Pipe() { ::close(ends[0]); }
  std::string all() {
    ::close(ends[1]);
    std::string out;
    char block[4096];
    for (ssize_t n; (n = ::read(ends[0], block, sizeof block)) > 0;) out.append(block, size_t(n));
    return out;
  }
  int ends[2];
};

TEST(Progress, PlainLinesWhereThereIsNoTerminal) {
  Pipe pipe;
  {
    Progress bar(1000, "train", {.fd = pipe.ends[1], .line_seconds = 1e9});
    for (int i = 0; i < 1000; ++i) bar.advance(1, "loss " + std::to_string(i));
  }
  std::string out = pipe.all();
  EXPECT_EQ(count(out, "\n"), 2u);  // the first and the last
  EXPECT_THAT(out, AllOf(HasSubstr("train   0% 1/1000"), HasSubstr("train 100% 1000/1000"), HasSubstr("/s"),
                         HasSubstr("loss 999"), Not(HasSubstr("\r"))));
}

TEST(Progress, NeverWiderThanTheTerminal) {
  Pipe pipe;
  {
    Progress bar(10, "training the long name", {.fd = pipe.ends[1], .redraw_seconds = 0, .width = 30, .tty = 1});
    for (int i = 1; i <= 10; ++i) bar.update(i, "loss 1.25, accuracy 0.75");
  }
  std::string out = pipe.all();
  for (size_t at = 0; at < out.size();) {
    size_t end = std::min(out.find('\r', at + 1), out.size());
    EXPECT_LE(end - at, 29u + 5);  // text, carriage return, erase to the end of the line, the last line break
    at = end;
  }
}

TEST(Progress, OneLineOnATerminal) {
  Pipe pipe;
  {
    Progress bar(10, "train", {.fd = pipe.ends[1], .redraw_seconds = 0, .width = 70, .tty = 1});
    for (int i = 1; i <= 10; ++i) bar.update(i, "loss 1.25");
    bar.message("saved");
    bar.finish();
    bar.update(3);
  }
  std::string out = pipe.all();
  EXPECT_EQ(count(out, "\n"), 2u);  // the message and the end
  EXPECT_THAT(out, AllOf(HasSubstr("\r\x1b[Ksaved\n"), HasSubstr("[======"), HasSubstr("100% ")));
}

TEST(Progress, UnknownTotalNothingDoneAndClosedOutput) {
  Pipe pipe;
  {
    Progress bar(0, "read", {.fd = pipe.ends[1]});
    bar.advance(12345);
  }
  { Progress never(10, "never", {.fd = pipe.ends[1]}); }
  std::string out = pipe.all();
  EXPECT_THAT(out, AllOf(HasSubstr("read 12345"), Not(HasSubstr("%")), Not(HasSubstr("never"))));
  Progress closed(10, "", {.fd = -1});
  closed.update(10);
}

TEST(Progress, Formats) {
  EXPECT_EQ(format_duration(7), "0:07");
  EXPECT_EQ(format_duration(754), "12:34");
  EXPECT_EQ(format_duration(11045), "3:04:05");
  EXPECT_EQ(format_duration(183600), "2d 03h");
  EXPECT_EQ(format_duration(NAN), "?");
  EXPECT_EQ(format_count(950), "950");
  EXPECT_EQ(format_count(12345), "12.3k");
  EXPECT_EQ(format_count(4.56e6), "4.56M");
  EXPECT_EQ(format_count(0.5), "0.50");
  EXPECT_EQ(format_count(999.6), "1.00k");
}

}  // namespace
}  // namespace whence
