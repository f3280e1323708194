"""What agent command lines are heard to say, judged against every genuine run of them."""
