# rules.cmake: what `cmake --install build --prefix P` puts where. All places are relative: P may be moved.
#
#   bin/moonbow                     runs scripts, from anywhere
#   lib/libmoonbow.so               and libmoonbow_cuda.so, libmoonbow_edit.so where they were built; pkgconfig/ and cmake/ for programs in C
#   include/moonbow.h
#   share/moonbow/lua, bindings     the Lua files;  scripts/: those of the project;  editor/: declarations for editors
#   share/doc/moonbow               the documents
#
# For luarocks (moonbow-scm-1.rockspec) MB_ROCK_LUADIR and MB_ROCK_LIBDIR name its folders: there the Lua files, scripts and
# the header are all in LUADIR/moonbow. MOONBOW_PREBUILT in the environment, a libmoonbow.so, is installed instead of one
# that is built: for packages that have it already, and for tests.
include(GNUInstallDirs)

set(MB_SCRIPTS FILES_MATCHING PATTERN "*.lua" PATTERN "bench" EXCLUDE PATTERN "docs" EXCLUDE PATTERN "gpu_check" EXCLUDE
    PATTERN "reproduce" EXCLUDE PATTERN "install" EXCLUDE)

if(MB_ROCK_LUADIR)
  set(MB_LIBRARIES ${MB_ROCK_LIBDIR})
  install(DIRECTORY lua/moonbow/ DESTINATION ${MB_ROCK_LUADIR}/moonbow)
  install(DIRECTORY bindings DESTINATION ${MB_ROCK_LUADIR}/moonbow FILES_MATCHING PATTERN "*.lua")
  install(DIRECTORY scripts/ DESTINATION ${MB_ROCK_LUADIR}/moonbow/scripts ${MB_SCRIPTS})
  install(FILES engine/include/moonbow.h DESTINATION ${MB_ROCK_LUADIR}/moonbow/include)
else()
  set(MB_LIBRARIES ${CMAKE_INSTALL_LIBDIR})
  set(MB_SHARE ${CMAKE_INSTALL_DATADIR}/moonbow)
  install(DIRECTORY lua bindings DESTINATION ${MB_SHARE} FILES_MATCHING PATTERN "*.lua")
  install(DIRECTORY scripts/ DESTINATION ${MB_SHARE}/scripts ${MB_SCRIPTS})
  install(DIRECTORY docs/editor DESTINATION ${MB_SHARE})
  install(FILES engine/include/moonbow.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/moonbow PATTERN "editor" EXCLUDE PATTERN "results" EXCLUDE)
  file(RELATIVE_PATH MB_PREFIX_OF_PC /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
  configure_file(scripts/install/moonbow.pc.in moonbow.pc @ONLY)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/moonbow.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()
install(PROGRAMS scripts/moonbow DESTINATION ${CMAKE_INSTALL_BINDIR})

if(MB_PREBUILT)
  install(FILES ${MB_PREBUILT} DESTINATION ${MB_LIBRARIES})
elseif(MB_ROCK_LUADIR)
  install(TARGETS moonbow LIBRARY DESTINATION ${MB_LIBRARIES})
else()
  install(TARGETS moonbow EXPORT moonbow LIBRARY DESTINATION ${MB_LIBRARIES})
  install(EXPORT moonbow NAMESPACE moonbow:: FILE moonbow-config.cmake DESTINATION ${MB_LIBRARIES}/cmake/moonbow)
endif()
if(TARGET moonbow_edit)
  install(TARGETS moonbow_edit LIBRARY DESTINATION ${MB_LIBRARIES})
endif()
if(TARGET moonbow_cuda)
  install(TARGETS moonbow_cuda LIBRARY DESTINATION ${MB_LIBRARIES})
endif()
