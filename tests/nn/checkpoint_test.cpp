#include "whence/nn/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/nn/io_test_util.h"

namespace whence {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace whence::testing;

TensorMap state(double v) {
  return {{"w", Tensor::full({64, 3}, v)}, {"n", Tensor::full({}, v, i64)}, {"flag", Tensor::full({2}, 1, boolean)}};
}

TEST(Checkpoint, RoundTripWithoutTraceOfTheChecksum) {
  TempFolder tmp;
  TensorMap s = state(2);
  s["t"] = Tensor::from(std::vector<float>{1, 2, 3, 4, 5, 6}, {2, 3}).transposed();
  save_checkpoint(tmp / "c", s, {{"epoch", "3"}});
  auto c = load_checkpoint(tmp / "c");
  EXPECT_EQ(c.metadata, (Metadata{{"epoch", "3"}}));
  ASSERT_EQ(c.tensors.size(), s.size());
  for (auto& [k, t] : s) EXPECT_TRUE(bitwise_equal(t, c.tensors.at(k))) << k;
  EXPECT_EQ(Safetensors::open(tmp / "c").metadata().size(), 2u);
  save_safetensors(tmp / "plain", s);  // no checksum: loads too
  EXPECT_EQ(load_checkpoint(tmp / "plain").tensors.size(), s.size());
}

TEST(Checkpoint, AFlippedBitIsSeen) {
  TempFolder tmp;
  save_checkpoint(tmp / "c", state(2));
  std::string bytes = slurp(tmp / "c");
  bytes[bytes.size() - 40] ^= 4;
  put(tmp / "c", bytes);
  EXPECT_THAT(message_of<IoError>([&] { load_checkpoint(tmp / "c"); }), HasSubstr("damaged: the data have checksum"));
}

std::vector<int64_t> steps(const CheckpointFolder& f) {
  std::vector<int64_t> out;
  for (auto& x : f.list()) out.push_back(x.step);
  return out;
}

TEST(CheckpointFolder, KeepsTheNewest) {
  TempFolder tmp;
  CheckpointFolder f(tmp / "a/b/", 2);
  put(tmp / "a/b/checkpoint-last.safetensors", "not counted");
  put(tmp / "a/b/other-00000001.safetensors", "not counted");
  EXPECT_FALSE(f.latest());
  for (int step : {1, 2, 10, 20}) f.save(step, state(step));
  EXPECT_THAT(steps(f), ElementsAre(10, 20));
  EXPECT_EQ(f.latest()->step, 20);
  EXPECT_EQ(f.latest()->path, tmp / "a/b/checkpoint-00000020.safetensors");
  f.save(5, state(5));  // resumed from before: later ones are not this run's to remove
  EXPECT_THAT(steps(f), ElementsAre(5, 10, 20));
  f.save(123456789, state(1));
  EXPECT_THAT(steps(f), ElementsAre(20, 123456789));
  CheckpointFolder all(tmp / "all", 0);
  for (int step = 0; step < 5; ++step) all.save(step, state(step));
  EXPECT_EQ(steps(all).size(), 5u);
  EXPECT_TRUE(std::filesystem::exists(tmp / "a/b/other-00000001.safetensors"));
}

TEST(CheckpointFolder, PassesOverDamagedFiles) {
  TempFolder tmp;
  CheckpointFolder f(tmp.path, 0);
  f.save(1, state(1));
  f.save(2, state(2));
  f.save(3, state(3));
  std::string bytes = slurp(f.path_of(3));
  put(f.path_of(3), bytes.substr(0, bytes.size() - 1));
  put(f.path_of(4), "");
  bytes = slurp(f.path_of(2));
  bytes.back() ^= 1;
  put(f.path_of(2), bytes);
  std::vector<std::string> skipped;
  auto found = f.latest(&skipped);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->step, 1);
  EXPECT_THAT(skipped, ElementsAre(HasSubstr("00000004"), HasSubstr("00000003"), HasSubstr("00000002")));
}

TEST(CheckpointFolder, RefusesNonsense) {
  TempFolder tmp;
  EXPECT_THROW(CheckpointFolder(tmp.path, -1), ValueError);
  EXPECT_THROW(CheckpointFolder(tmp.path, 1, "a/b"), ValueError);
  EXPECT_THROW(CheckpointFolder(tmp.path, 1, ""), ValueError);
  put(tmp / "file", "x");
  EXPECT_THAT(message_of<IoError>([&] { CheckpointFolder(tmp / "file/x"); }), HasSubstr("cannot create the folder"));
  EXPECT_THAT(message_of<IoError>([&] { CheckpointFolder(tmp / "file"); }), HasSubstr("a file of that name is there"));
}

// A training run that saves without pause is killed: what latest() finds is whole and new.
TEST(CheckpointFolder, AKilledRunLeavesAUsableCheckpoint) {
  TempFolder tmp;
  CheckpointFolder f(tmp.path, 2);
  f.save(0, {{"w", Tensor::full({5000}, 0)}});
  int64_t before = 0;
  for (int round = 0; round < 12; ++round) {
    pid_t child = ::fork();
    if (child == 0) {
      for (int64_t step = before + 1;; ++step)
        f.save(step, {{"w", Tensor::full({5000}, double(step))}}, {{"step", std::to_string(step)}});
    }
    while (f.list().back().step <= before) ::usleep(200);  // it is at work, however busy the machine
    ::usleep(useconds_t(round * 700));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    std::vector<std::string> skipped;
    auto found = f.latest(&skipped);
    ASSERT_TRUE(found);
    EXPECT_THAT(skipped, ::testing::IsEmpty());
    EXPECT_GT(found->step, before);
    auto c = load_checkpoint(found->path);
    EXPECT_EQ(c.tensors.at("w").item(4999), double(found->step));
    before = found->step;
  }
}

}  // namespace
}  // namespace whence
