#include "whence/version.h"

#define WHENCE_STRING_(x) #x
#define WHENCE_STRING(x) WHENCE_STRING_(x)

namespace whence {

const char* version() {
  return WHENCE_STRING(WHENCE_VERSION_MAJOR) "." WHENCE_STRING(WHENCE_VERSION_MINOR) "." WHENCE_STRING(
      WHENCE_VERSION_PATCH);
}

}  // namespace whence
