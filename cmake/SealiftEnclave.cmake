# sealift_add_enclave(NAME SOURCES … MANIFEST file [LIBS …] [KEY pem])
#
# Builds NAME.enclave in ${CMAKE_BINARY_DIR}/bin from ordinary C++20 sources: a static-PIE with glibc and libstdc++ as they
# are, core and runtime linked in, laid out, measured and signed by the manifest. Without KEY a development key, made
# once per build folder, signs it.

set(SEALIFT_CMAKE_DIR ${CMAKE_CURRENT_LIST_DIR})
set(SEALIFT_DEV_KEY ${CMAKE_BINARY_DIR}/development-signing-key.pem)

function(sealift_development_key)
  if(NOT TARGET sealift_dev_key)
    add_custom_command(OUTPUT ${SEALIFT_DEV_KEY} COMMAND sealift-sign --new-key ${SEALIFT_DEV_KEY} VERBATIM)
    add_custom_target(sealift_dev_key DEPENDS ${SEALIFT_DEV_KEY})
  endif()
endfunction()

function(sealift_add_enclave name)
  cmake_parse_arguments(E "" "MANIFEST;KEY" "SOURCES;LIBS;INCLUDES" ${ARGN})
  get_property(core GLOBAL PROPERTY SEALIFT_CORE_OBJECT)
  add_executable(${name}-image ${E_SOURCES} $<TARGET_OBJECTS:sealift_runtime_syscalls>
                               $<TARGET_OBJECTS:sealift_runtime_hosted> ${core})
  set_source_files_properties(${core} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  add_dependencies(${name}-image sealift_core)
  target_include_directories(${name}-image PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/include ${E_INCLUDES})
  target_compile_options(${name}-image PRIVATE -O2 -g -fPIE -Wall -Wextra -Wconversion -Werror)
  set_target_properties(${name}-image PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/images)
  target_link_options(${name}-image PRIVATE
    -static-pie -Wl,--wrap=main -Wl,-T,${SEALIFT_CMAKE_DIR}/enclave.ld -Wl,-z,noexecstack -Wl,--build-id=none
    -Wl,-u,__wrap_main)
  target_link_libraries(${name}-image PRIVATE ${E_LIBS})
  set_property(TARGET ${name}-image PROPERTY LINK_DEPENDS ${SEALIFT_CMAKE_DIR}/enclave.ld)
  get_filename_component(manifest ${E_MANIFEST} ABSOLUTE)
  if(NOT E_KEY)
    sealift_development_key()
    set(E_KEY ${SEALIFT_DEV_KEY})
  endif()
  set(output ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/${name}.enclave)
  add_custom_command(
    OUTPUT ${output}
    COMMAND sealift-sign $<TARGET_FILE:${name}-image> ${manifest} ${E_KEY} ${output}
    DEPENDS ${name}-image sealift-sign ${manifest} ${E_KEY}
    VERBATIM)
  add_custom_target(${name}-enclave ALL DEPENDS ${output})
endfunction()
