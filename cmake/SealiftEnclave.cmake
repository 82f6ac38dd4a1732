# sealift_add_enclave(NAME SOURCES … MANIFEST file [LIBS …] [KEY pem] [CORE object])
#
# Builds NAME.enclave in ${CMAKE_BINARY_DIR}/bin from ordinary C++20 sources: a static-PIE with glibc and libstdc++ as they
# are, core and runtime linked in, laid out, measured and signed by the manifest. Without KEY a development key, made
# once per build folder, signs it. A manifest may say @SEALIFT_DEV_MRSIGNER@: the build puts in the MRSIGNER of that
# development key, which also signs the development agent. CORE is another core than the product's (bench/).

set(SEALIFT_CMAKE_DIR ${CMAKE_CURRENT_LIST_DIR})
set(SEALIFT_DEV_KEY ${CMAKE_BINARY_DIR}/development-signing-key.pem)

function(sealift_development_key)
  if(NOT TARGET sealift_dev_key)
    # Made once: a new signer alone must not change every enclave's MRSIGNER.
    add_custom_command(
      OUTPUT ${SEALIFT_DEV_KEY}
      COMMAND sh -c "test -f '${SEALIFT_DEV_KEY}' || '$<TARGET_FILE:sealift-sign>' --new-key '${SEALIFT_DEV_KEY}'"
      COMMAND ${CMAKE_COMMAND} -E touch ${SEALIFT_DEV_KEY}
      DEPENDS sealift-sign
      VERBATIM)
    add_custom_target(sealift_dev_key DEPENDS ${SEALIFT_DEV_KEY})
  endif()
endfunction()

# Sets `out` to the manifest to sign with: `manifest` itself, or, when it names the development key's MRSIGNER, the copy
# that the build makes of it.
function(sealift_manifest name manifest out)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${manifest})
  file(STRINGS ${manifest} placeholders REGEX "@SEALIFT_DEV_MRSIGNER@")
  if(NOT placeholders)
    set(${out} ${manifest} PARENT_SCOPE)
    return()
  endif()
  sealift_development_key()
  set(made ${CMAKE_BINARY_DIR}/manifests/${name}.toml)
  add_custom_command(
    OUTPUT ${made}
    COMMAND ${CMAKE_COMMAND} -D SIGN=$<TARGET_FILE:sealift-sign> -D KEY=${SEALIFT_DEV_KEY} -D IN=${manifest}
            -D OUT=${made} -P ${SEALIFT_CMAKE_DIR}/SealiftManifest.cmake
    DEPENDS ${manifest} ${SEALIFT_DEV_KEY} sealift-sign ${SEALIFT_CMAKE_DIR}/SealiftManifest.cmake
    VERBATIM)
  set(${out} ${made} PARENT_SCOPE)
endfunction()

function(sealift_add_enclave name)
  cmake_parse_arguments(E "" "MANIFEST;KEY;CORE" "SOURCES;LIBS;INCLUDES" ${ARGN})
  get_property(core GLOBAL PROPERTY SEALIFT_CORE_OBJECT)
  if(E_CORE)
    set(core ${E_CORE})
  endif()
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
  sealift_manifest(${name} ${manifest} manifest)
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
