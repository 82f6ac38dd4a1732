# cmake -D SIGN=… -D KEY=… -D IN=… -D OUT=… -P SealiftManifest.cmake: writes the manifest IN to OUT with
# @SEALIFT_DEV_MRSIGNER@ replaced by KEY's MRSIGNER.
execute_process(COMMAND ${SIGN} --mrsigner ${KEY} OUTPUT_VARIABLE SEALIFT_DEV_MRSIGNER OUTPUT_STRIP_TRAILING_WHITESPACE
                COMMAND_ERROR_IS_FATAL ANY)
configure_file(${IN} ${OUT} @ONLY)
# configure_file leaves an unchanged copy alone; the build compares times.
file(TOUCH ${OUT})
