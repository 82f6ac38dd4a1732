// The public name of sealift::Result and sealift::Errc.
#pragma once

#include "migration/result.h"
