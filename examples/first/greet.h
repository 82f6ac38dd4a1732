// The calls, declared once for both sides.
#pragma once

#include <string>

#include "sealift/calls.h"

inline constexpr sealift::Ecall<1, std::string(std::string)> kGreet{};
