# The library and header, a CMake package and a pkg-config file: none of them names a folder of this machine.
include(CMakePackageConfigHelpers)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/hybridstitch)
install(TARGETS hybridstitch EXPORT hybridstitch)
install(
  DIRECTORY include/hybridstitch ${CMAKE_CURRENT_BINARY_DIR}/include/hybridstitch
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING
  PATTERN "*.hpp")
install(EXPORT hybridstitch NAMESPACE hybridstitch:: FILE hybridstitchConfig.cmake DESTINATION ${package_folder})
write_basic_package_version_file(
  ${CMAKE_CURRENT_BINARY_DIR}/hybridstitchConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/hybridstitchConfigVersion.cmake DESTINATION ${package_folder})

# ${pcfiledir} lets the prefix be moved; it is as many folders up as LIBDIR/pkgconfig has.
file(RELATIVE_PATH to_prefix ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(cmake/hybridstitch.pc.in hybridstitch.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/hybridstitch.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
