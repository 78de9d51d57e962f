#include "whence/nn/io/atomic_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <thread>

#include "whence/nn/checkpoint.h"
#include "whence/nn/io/file.h"
#include "whence/nn/metrics.h"
#include "whence/tensor/error.h"
#include "tests/gzipped.h"
#include "tests/nn/io_test_util.h"

namespace whence {
namespace {

using ::testing::HasSubstr;
using namespace whence::testing;

int files_in(const std::string& folder) { return int(std::distance(std::filesystem::directory_iterator(folder), {})); }

TEST(AtomicFile, ReplacesOnlyAtCommit) {
  TempFolder tmp;
  put(tmp / "a", "old");
  {
    AtomicFile out(tmp / "a");
    out.write("new ");
    out.write(std::string(200'000, 'x'));
    out.write("end");
    EXPECT_EQ(slurp(tmp / "a"), "old");
    out.commit();
    EXPECT_THROW(out.write("more"), IoError);
    EXPECT_THROW(out.commit(), IoError);
  }
  EXPECT_EQ(slurp(tmp / "a"), "new " + std::string(200'000, 'x') + "end");
  {
    AtomicFile out(tmp / "a");
    out.write("lost");
  }
  EXPECT_EQ(slurp(tmp / "a").substr(0, 4), "new ");
  EXPECT_EQ(files_in(tmp.path), 1);
}

TEST(AtomicFile, KeepsLinksAndPermissions) {
  TempFolder tmp;
  put(tmp / "real", "old");
  ::chmod((tmp / "real").c_str(), 0640);
  ASSERT_EQ(::symlink("real", (tmp / "link").c_str()), 0);
  write_file_atomically(tmp / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(tmp / "link"));
  EXPECT_EQ(slurp(tmp / "real"), "new");
  struct stat st;
  ::stat((tmp / "real").c_str(), &st);
  EXPECT_EQ(st.st_mode & 0777, 0640u);
}

TEST(AtomicFile, SaysWhichFileAndWhy) {
  TempFolder tmp;
  EXPECT_THAT(message_of<IoError>([&] { AtomicFile(tmp / "no/such/file"); }),
              ::testing::AllOf(HasSubstr("no/such/file"), HasSubstr("No such file")));
  EXPECT_THAT(message_of<IoError>([&] { AtomicFile("folder/"); }), HasSubstr("not the name of a file"));
  std::filesystem::create_directory(tmp / "folder");
  EXPECT_THAT(message_of<IoError>([&] { write_file_atomically(tmp / "folder", "x"); }), HasSubstr("is a folder"));
  EXPECT_EQ(files_in(tmp.path), 1);  // no temporary is left
}

// ---- what is no plain file -----------------------------------------------------------------------------------------

mode_t kind_of(const std::string& path) {
  struct stat st;
  return ::lstat(path.c_str(), &st) == 0 ? st.st_mode & S_IFMT : 0;
}

TEST(AtomicFile, APipeADeviceAFolderAndASocketStayWhatTheyAre) {
  TempFolder tmp;
  ASSERT_EQ(::mkfifo((tmp / "pipe").c_str(), 0600), 0);
  std::filesystem::create_directory(tmp / "folder");
  int s = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  std::snprintf(at.sun_path, sizeof at.sun_path, "%s", (tmp / "socket").c_str());
  ASSERT_EQ(::bind(s, reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
  ::close(s);
  for (const char* name : {"pipe", "folder", "socket"})
    ASSERT_EQ(::symlink(name, (tmp / (std::string("link to ") + name)).c_str()), 0);
  ASSERT_EQ(::symlink("/dev/null", (tmp / "link to device").c_str()), 0);
  const std::map<std::string, mode_t> kinds{{"pipe", S_IFIFO}, {"folder", S_IFDIR}, {"socket", S_IFSOCK}};
  const int before = files_in(tmp.path);
  for (auto& [name, kind] : kinds)
    for (std::string path : {tmp / name, tmp / ("link to " + name)}) {
      EXPECT_THAT(message_of<IoError>([&] { write_file_atomically(path, "x"); }), HasSubstr(path + ": is a " + name));
      EXPECT_THAT(message_of<IoError>([&] {
                    save_safetensors(path, {{"a", Tensor::scalar(1)}});
                  }),
                  HasSubstr("only a regular file can be replaced"));
      EXPECT_THAT(message_of<IoError>([&] { save_checkpoint(path, {{"a", Tensor::scalar(1)}}); }), HasSubstr(path));
      EXPECT_THAT(message_of<IoError>([&] { save_curves(path, {{"a", {0, 1}, {1, 2}}}); }), HasSubstr(path));
      EXPECT_EQ(kind_of(tmp / name), kind);
    }
  EXPECT_THAT(message_of<IoError>([&] { write_file_atomically("/dev/null", "x"); }), HasSubstr("is a device"));
  EXPECT_THAT(message_of<IoError>([&] { write_file_atomically(tmp / "link to device", "x"); }),
              HasSubstr("is a device"));
  EXPECT_EQ(kind_of("/dev/null"), mode_t(S_IFCHR));
  for (const char* name : {"pipe", "folder", "socket", "link to pipe"})
    EXPECT_THAT(message_of<IoError>([&] { MetricsWriter m(tmp / name); }), HasSubstr(name)) << name;
  EXPECT_EQ(files_in(tmp.path), before);
}

TEST(AtomicFile, LinksAreFollowedToTheFile) {
  TempFolder tmp;
  std::filesystem::create_directory(tmp / "there");
  put(tmp / "there/real", "old");
  ASSERT_EQ(::symlink("there/real", (tmp / "one").c_str()), 0);
  ASSERT_EQ(::symlink("one", (tmp / "two").c_str()), 0);
  ASSERT_EQ(::symlink("there/new", (tmp / "to nothing").c_str()), 0);
  ASSERT_EQ(::symlink("loop", (tmp / "loop").c_str()), 0);
  ASSERT_EQ(::symlink("no/such/folder", (tmp / "astray").c_str()), 0);
  write_file_atomically(tmp / "two", "through both");
  write_file_atomically(tmp / "to nothing", "made");
  EXPECT_EQ(slurp(tmp / "there/real"), "through both");
  EXPECT_EQ(slurp(tmp / "there/new"), "made");
  for (const char* name : {"one", "two", "to nothing"}) EXPECT_EQ(kind_of(tmp / name), mode_t(S_IFLNK));
  EXPECT_THAT(message_of<IoError>([&] { write_file_atomically(tmp / "loop", "x"); }),
              HasSubstr("too many symbolic links"));
  EXPECT_THAT(message_of<IoError>([&] { write_file_atomically(tmp / "astray", "x"); }), HasSubstr("astray"));
  EXPECT_EQ(files_in(tmp.path), 6);
  EXPECT_EQ(files_in(tmp / "there"), 2);
}

// As a user without rights: a root that runs the tests may do everything.
TEST(AtomicFile, WhatMayNotBeWrittenStays) {
  TempFolder tmp;
  std::filesystem::create_directory(tmp / "closed");
  put(tmp / "closed/a", "old");
  put(tmp / "kept", "old");
  ::chmod((tmp / "kept").c_str(), 0444);
  ::chmod((tmp / "closed").c_str(), 0555);
  ::chmod(tmp.path.c_str(), 0777);
  pid_t child = ::fork();
  if (child == 0) {
    if (::geteuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) ::_exit(3);
    auto refused = [&](const std::string& path) {
      return message_of<IoError>([&] { write_file_atomically(path, "new"); }).find("Permission denied") !=
             std::string::npos;
    };
    const bool ok = refused(tmp / "closed/a") && refused(tmp / "closed/b") && refused(tmp / "kept");
    ::_exit(ok ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(slurp(tmp / "closed/a"), "old");
  EXPECT_EQ(slurp(tmp / "kept"), "old");
  ::chmod((tmp / "closed").c_str(), 0755);
}

// Pipes are streams: what a slow writer puts into one is read whole, plain or gzip. Only mapping needs a file.
TEST(ByteSource, ReadsPipesByteByByte) {
  TempFolder tmp;
  const std::string text = "a,b\n1,2\n" + std::string(5000, '\n') + "3,4\n";
  for (const std::string& sent : {text, gzipped(text), std::string(), std::string("x")}) {
    ASSERT_EQ(::mkfifo((tmp / "pipe").c_str(), 0600), 0);
    std::thread writer([&] {
      int fd = ::open((tmp / "pipe").c_str(), O_WRONLY);
      for (size_t at = 0; at < sent.size(); ++at) {
        if (at < 5) ::usleep(2000);
        if (::write(fd, sent.data() + at, 1) != 1) break;
      }
      ::close(fd);
    });
    EXPECT_EQ(read_text(tmp / "pipe"), sent == "x" || sent.empty() ? sent : text);
    writer.join();
    ::unlink((tmp / "pipe").c_str());
  }
}

TEST(MappedFile, RefusesWhatHasNoSizeAtOnce) {
  TempFolder tmp;
  ASSERT_EQ(::mkfifo((tmp / "pipe").c_str(), 0600), 0);
  for (const std::string& path : {tmp / "pipe", std::string("/dev/null"), std::string("/dev/zero")})
    EXPECT_THAT(message_of<IoError>([&] { load_safetensors(path); }), HasSubstr(path + ": is no regular file"));
  EXPECT_THAT(message_of<IoError>([&] { load_safetensors(tmp.path); }), HasSubstr("is a folder"));
  EXPECT_EQ(read_text("/dev/null"), "");
  put(tmp / "a", "not asked for");
  const std::string hidden = tmp / std::string("a\0b", 3);
  EXPECT_THAT(message_of<IoError>([&] { read_text(hidden); }), HasSubstr("cannot hold a NUL"));
  EXPECT_THAT(message_of<IoError>([&] { write_file_atomically(hidden, "x"); }), HasSubstr("cannot hold a NUL"));
  EXPECT_EQ(slurp(tmp / "a"), "not asked for");
}

TEST(AtomicFile, AFullDiskLeavesTheOldFile) {
  TempFolder tmp;
  put(tmp / "a", "old");
  pid_t child = ::fork();
  if (child == 0) {  // a file size limit stands for the full disk
    ::signal(SIGXFSZ, SIG_IGN);
    rlimit limit{100'000, 100'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_file_atomically(tmp / "a", std::string(300'000, 'x'));
    } catch (const IoError&) {
      ::_exit(slurp(tmp / "a") == "old" && files_in(tmp.path) == 1 ? 0 : 2);
    }
    ::_exit(1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// A child rewrites one file as fast as it can and is killed at many different moments: the file is always one
// whole version.
TEST(AtomicFile, AKilledWriterNeverLeavesHalfAFile) {
  TempFolder tmp;
  std::string path = tmp / "state";
  auto version = [](int i) { return std::string(size_t(50'000 + i % 7 * 30'000), char('a' + i % 26)); };
  write_file_atomically(path, version(0));
  int leftovers = 0;
  for (int round = 0; round < 25 || (leftovers == 0 && round < 500); ++round) {
    pid_t child = ::fork();
    if (child == 0) {
      for (int i = round;; ++i) write_file_atomically(path, version(i));
    }
    auto inode = [&] {
      struct stat st;
      return ::stat(path.c_str(), &st) == 0 ? st.st_ino : 0;
    };
    // Once it is seen writing, however busy the machine, a moment longer.
    for (auto first = inode(); inode() == first;) ::usleep(100);
    if (round % 2) ::usleep(useconds_t(round % 25 * 300));
    else
      while (files_in(tmp.path) == 1) {}  // the moment a temporary is there
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    std::string now = slurp(path);
    bool whole = false;
    for (int i = 0; i < 7 * 26; ++i) whole |= now == version(i);
    ASSERT_TRUE(whole) << "round " << round << ": " << now.size() << " bytes";
    leftovers += files_in(tmp.path) > 1;
  }
  EXPECT_GT(leftovers, 0) << "no kill fell into a write; the test saw nothing";
  write_file_atomically(path, "last");
  EXPECT_EQ(files_in(tmp.path), 1) << "temporaries of killed writers must go";
  EXPECT_EQ(slurp(path), "last");
}

TEST(ByteSource, GzipIsUndoneWhateverTheName) {
  std::string text;
  for (int i = 0; i < 50'000; ++i) text += std::to_string(i) + "\n";
  TempFolder tmp;
  put(tmp / "plain.gz", text);  // the name does not matter
  put(tmp / "packed", gzipped(text));
  put(tmp / "members", gzipped(text) + gzipped("second") + std::string(5, 0));
  EXPECT_EQ(read_text(tmp / "plain.gz"), text);
  EXPECT_EQ(read_text(tmp / "packed"), text);
  EXPECT_EQ(read_text(tmp / "members"), text + "second");
  EXPECT_EQ(ByteSource::memory(bytes_of(gzipped(text))).rest(), text);
  EXPECT_EQ(ByteSource::memory(bytes_of("")).rest(), "");
}

TEST(ByteSource, DamagedGzipIsAnError) {
  std::string packed = gzipped(std::string(100'000, 'q') + "tail");
  for (size_t n : {size_t(2), size_t(10), packed.size() / 2, packed.size() - 1})
    EXPECT_THAT(message_of<IoError>([&] { ByteSource::memory(bytes_of(packed.substr(0, n)), "a.gz").rest(); }),
                HasSubstr("a.gz: the gzip stream is cut off"));
  std::string bad = packed;
  bad[bad.size() - 6] ^= 1;  // checksum
  EXPECT_THAT(message_of<IoError>([&] { ByteSource::memory(bytes_of(bad)).rest(); }), HasSubstr("damaged"));
  EXPECT_THAT(message_of<IoError>([&] { ByteSource::memory(bytes_of(packed + "junk")).rest(); }), HasSubstr("damaged"));
  EXPECT_THAT(message_of<IoError>([&] { ByteSource::memory(bytes_of(packed)).rest(1000); }),
              HasSubstr("more than 1000 bytes"));
  EXPECT_THAT(message_of<IoError>([&] { read_text("/"); }), HasSubstr("is a folder"));
}

TEST(LineReader, LineEndings) {
  LineReader lines(ByteSource::memory(bytes_of("a\r\n\nb\rc\nlast")));
  std::string line;
  std::vector<std::string> all;
  while (lines.next(line)) all.push_back(line);
  EXPECT_EQ(all, (std::vector<std::string>{"a", "", "b\rc", "last"}));
  EXPECT_EQ(lines.line(), 4);
}

}  // namespace
}  // namespace whence
