#include <gtest/gtest.h>
#include <whence/whence.h>

#include <string>

TEST(Version, LibraryAndHeadersAgree) {
  EXPECT_EQ(whence::version(), std::to_string(WHENCE_VERSION_MAJOR) + "." + std::to_string(WHENCE_VERSION_MINOR) + "." +
                                   std::to_string(WHENCE_VERSION_PATCH));
}
