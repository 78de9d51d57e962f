# include/whence/whence.h and include/whence/{tensor,autograd,...}/*.h; lib/libwhence.*; lib/cmake/Whence.
include(CMakePackageConfigHelpers)

file(GLOB whence_umbrellas CONFIGURE_DEPENDS include/whence/*.h)  # beside them lie links to the folders
install(FILES ${whence_umbrellas} DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/whence")
foreach(folder IN ITEMS tensor autograd ops nn models dist lrp)
  if(IS_DIRECTORY "${PROJECT_SOURCE_DIR}/${folder}")
    # Kernel headers stay private: they need xsimd and the library's own flags. So does the planner's inside.
    install(DIRECTORY ${folder}/ DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/whence/${folder}"
            FILES_MATCHING PATTERN "*.h" PATTERN "cpu" EXCLUDE PATTERN "cuda" EXCLUDE PATTERN "plan" EXCLUDE PATTERN "*_kernel*.h" EXCLUDE)
  endif()
endforeach()

install(FILES testing/op_suite.h testing/op_suite_gtest.h DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/whence/testing")

install(TARGETS whence whence_archive whence_op_suite EXPORT WhenceTargets
        ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
        LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
        RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
set(whence_cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/Whence")
install(EXPORT WhenceTargets NAMESPACE Whence:: DESTINATION "${whence_cmake_dir}")
configure_package_config_file(cmake/WhenceConfig.cmake.in "${PROJECT_BINARY_DIR}/WhenceConfig.cmake"
                              INSTALL_DESTINATION "${whence_cmake_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/WhenceConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/WhenceConfig.cmake" "${PROJECT_BINARY_DIR}/WhenceConfigVersion.cmake"
        DESTINATION "${whence_cmake_dir}")
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DOCDIR}")
