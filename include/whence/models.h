// Published models as plain structs: #include <whence/models.h>.
#pragma once

#include "whence/models/barcode.h"
#include "whence/models/bert.h"
#include "whence/models/generate.h"
#include "whence/models/gpt2.h"
#include "whence/models/gpt_neox.h"
#include "whence/models/huggingface.h"
#include "whence/models/llama.h"
#include "whence/models/llama2c.h"
#include "whence/nn.h"
