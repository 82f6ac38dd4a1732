# Warnings, sanitizers and the helper that every test uses.

option(SEALIFT_ASAN "AddressSanitizer and UBSan in the host parts" OFF)
option(SEALIFT_TSAN "ThreadSanitizer in the host parts" OFF)
option(SEALIFT_FUZZ "libFuzzer targets (needs clang)" OFF)

# Line numbers for backtraces, no more: what else debuggers want is in the debug preset, and costs a fifth of a build.
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g1 -DNDEBUG")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1 -DNDEBUG")

# Everything that is compiled with the project's warnings links this.
add_library(sealift_warnings INTERFACE)
target_compile_options(sealift_warnings INTERFACE -Wall -Wextra -Wconversion -Werror)

# Host-side code: warnings, the include root, sanitizers. Code for enclaves never links this.
add_library(sealift_host_options INTERFACE)
target_link_libraries(sealift_host_options INTERFACE sealift_warnings)
target_include_directories(sealift_host_options INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/include)
if(SEALIFT_ASAN)
  target_compile_options(sealift_host_options INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=undefined
                                                        -fno-omit-frame-pointer)
  target_link_options(sealift_host_options INTERFACE -fsanitize=address,undefined)
endif()
if(SEALIFT_TSAN)
  # ThreadSanitizer does not model fences (Asio's reference counts have one), and g++ warns of each. What it misses that way
  # are orders, not races: it may report a race that a fence rules out, and never keeps silent about one because of it.
  target_compile_options(sealift_host_options INTERFACE -fsanitize=thread -Wno-tsan)
  target_link_options(sealift_host_options INTERFACE -fsanitize=thread)
endif()

# A test's own sources are compiled for a quarter of the build, and run for no time: what they test is optimised.
function(sealift_compile_fast target)
  target_compile_options(${target} PRIVATE $<$<AND:$<CONFIG:RelWithDebInfo>,$<COMPILE_LANGUAGE:CXX>>:-O0>)
endfunction()

# sealift_test(NAME SOURCES… [LIBS…]): a GoogleTest binary, one ctest entry. Its cases run in one process: many share
# costly fixtures (RSA keys, machines), and one process a case would make them anew each time.
function(sealift_test name)
  cmake_parse_arguments(T "" "TIMEOUT" "SOURCES;LIBS" ${ARGN})
  add_executable(${name} ${T_SOURCES})
  target_link_libraries(${name} PRIVATE sealift_host_options ${T_LIBS} GTest::gtest_main)
  sealift_compile_fast(${name})
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 300)
  endif()
  add_test(NAME ${name} COMMAND ${name} --gtest_brief=1)
  set_tests_properties(${name} PROPERTIES TIMEOUT ${T_TIMEOUT})
endfunction()

# sealift_sgx_test(NAME SOURCES … [LIBS …] [EPC size] [ENCLAVES name …]): the same, each run on a software SGX machine of
# its own.
function(sealift_sgx_test name)
  cmake_parse_arguments(T "" "TIMEOUT;EPC" "SOURCES;LIBS;ENCLAVES" ${ARGN})
  add_executable(${name} ${T_SOURCES})
  target_link_libraries(${name} PRIVATE sealift_host_options ${T_LIBS} GTest::gtest_main)
  sealift_compile_fast(${name})
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 300)
  endif()
  if(NOT T_EPC)
    set(T_EPC 256M)
  endif()
  add_dependencies(${name} softsgx softsgx_preload)
  target_compile_definitions(${name} PRIVATE SEALIFT_BIN_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
  foreach(enclave IN LISTS T_ENCLAVES)
    add_dependencies(${name} ${enclave}-enclave)
  endforeach()
  add_test(NAME ${name} COMMAND ${CMAKE_SOURCE_DIR}/scripts/with-machine $<TARGET_FILE:softsgx> ${T_EPC}
                               $<TARGET_FILE:${name}> --gtest_brief=1)
  set_tests_properties(${name} PROPERTIES TIMEOUT ${T_TIMEOUT})
endfunction()
