"""What people look at: tables, figures and notes, all made from result files."""
