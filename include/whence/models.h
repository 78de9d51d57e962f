// Published models as plain structs: #include <whence/models.h>.
#pragma once

#include "whence/models/barcode.h"
#include "whence/models/bert.h"
#include "whence/nn.h"
