/* Keeps notes in an SQLite database: notes FILE add TEXT, or notes FILE list. */

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

static int fail(sqlite3 *database)
{
    fprintf(stderr, "notes: %s\n", sqlite3_errmsg(database));
    sqlite3_close(database);
    return 1;
}

static int add(sqlite3 *database, const char *text)
{
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(database, "INSERT INTO notes (text) VALUES (?)", -1, &statement, NULL) != SQLITE_OK)
        return -1;
    sqlite3_bind_text(statement, 1, text, -1, SQLITE_STATIC);
    int result = sqlite3_step(statement);
    sqlite3_finalize(statement);
    return result == SQLITE_DONE ? 0 : -1;
}

static int list(sqlite3 *database)
{
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(database, "SELECT id, text FROM notes ORDER BY id", -1, &statement, NULL) != SQLITE_OK)
        return -1;
    int result;
    while ((result = sqlite3_step(statement)) == SQLITE_ROW)
        printf("%d\t%s\n", sqlite3_column_int(statement, 0), sqlite3_column_text(statement, 1));
    sqlite3_finalize(statement);
    return result == SQLITE_DONE ? 0 : -1;
}

int main(int argc, char **argv)
{
    int adds = argc == 4 && strcmp(argv[2], "add") == 0;
    if (!adds && !(argc == 3 && strcmp(argv[2], "list") == 0)) {
        fprintf(stderr, "usage: notes FILE add TEXT | notes FILE list\n");
        return 2;
    }
    sqlite3 *database;
    if (sqlite3_open(argv[1], &database) != SQLITE_OK)
        return fail(database);
    const char *table = "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)";
    if (sqlite3_exec(database, table, NULL, NULL, NULL) != SQLITE_OK)
        return fail(database);
    if ((adds ? add(database, argv[3]) : list(database)) != 0)
        return fail(database);
    return sqlite3_close(database) == SQLITE_OK ? 0 : 1;
}
