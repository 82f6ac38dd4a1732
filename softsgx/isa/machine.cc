#include "softsgx/isa/machine.h"
