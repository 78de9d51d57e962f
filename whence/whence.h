#pragma once

// Everything a user of Whence needs: #include <whence/whence.h>.

#include "whence/version.h"
